"""``agentflow solve``: the same flow, each module's step shown as it happens, without a trainer."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.cli.solve import add_arguments
from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.evaluation import session, settings
from agentflow_verl.evaluation.settings import tool_node
from agentflow_verl.evaluation.solve import Step, WatchedEngine, solve
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.prompts import Prompt, Prompts
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trajectories.records import Trajectory
from tests.engines.model_folders import write_model
from tests.evaluation.fakes import endpoint
from tests.flow.fakes import ANSWER, CALL, PLAN, PYTHON, STOP, ScriptedTools, engines
from tests.tools.servers import echo_process

ROOT = Path(__file__).resolve().parents[2]
TRAINERS = ("verl", "ray", "vllm", "torch", "transformers")


async def test_every_step_is_shown_in_order():
    steps: list[Step] = []
    trajectory = await solve("What is 2 * 2?", engines(), ScriptedTools("4"), show=steps.append)
    assert [(step.who, step.text) for step in steps] == [
        ("analyst", "Double it."),
        ("planner", PLAN),
        ("executor", CALL),
        ("python_coder", "4"),
        ("verifier", STOP),
        ("generator", ANSWER),
    ]
    assert steps[3].by == CALL
    assert trajectory.answer == "4"


async def test_schema_of_a_reply_reaches_the_engine_that_is_watched():
    watched = engines()
    await solve("What is 2 * 2?", watched, ScriptedTools("4"))
    assert watched["executor"].schemas == [PYTHON.parameters]
    assert watched["planner"].schemas == [None]


@pytest.mark.parametrize("structured", [False, True])
def test_watched_engine_is_structured_as_its_engine_is(structured):
    engine = engines()["executor"]
    engine.structured = structured
    assert WatchedEngine("executor", engine, print).structured is structured


def test_the_command_prints_the_steps_and_the_answer(tmp_path, capsys):
    file = tmp_path / "trajectory.json"
    with echo_process() as echo, endpoint() as model:
        assert (
            main(
                [
                    "solve",
                    "What is 4 plus 4?",
                    "--endpoint",
                    model.url,
                    "--tool",
                    f"echo={echo.url}",
                    "--json",
                    str(file),
                ]
            )
            == 0
        )
    printed = capsys.readouterr().out
    order = [
        printed.index(f"--- {who} (")
        for who in ("analyst", "planner", "executor", "echo", "verifier", "generator")
    ]
    assert order == sorted(order)
    assert printed.endswith("=== answered: 8\n")
    assert Trajectory.model_validate_json(file.read_text()).answer == "8"


def test_a_fault_is_said_and_is_not_an_answer(capsys, monkeypatch):
    monkeypatch.setattr("agentflow_verl.core.retry.random.uniform", lambda low, high: 0.001)
    with echo_process() as echo, endpoint() as model:
        model.broken = True
        assert (
            main(
                [
                    "solve",
                    "What is 4 plus 4?",
                    "--endpoint",
                    model.url,
                    "--tool",
                    f"echo={echo.url}",
                ]
            )
            == 3
        )
    assert "=== infra_error: endpoint base: HTTP 503" in capsys.readouterr().out


def test_it_runs_where_no_trainer_can_be_imported():
    """As in an environment without them: each of these names raises on import."""
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({TRAINERS!r}))\n"
        "from agentflow_verl.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with echo_process() as echo, endpoint() as model:
        command = [
            sys.executable,
            "-c",
            program,
            "solve",
            "What is 3 plus 3?",
            "--endpoint",
            model.url,
            "--tool",
            f"echo={echo.url}",
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "=== answered: 6"), run.stderr


def test_what_the_configuration_lacks_is_one_line(capsys):
    assert main(["solve", "Why?"]) == 2
    assert (
        capsys.readouterr().err
        == "agentflow solve: name a model: --model PATH starts a server, --endpoint URL uses"
        " one that runs\n"
    )


def test_a_tool_servers_arguments_are_words():
    assert tool_node("wikipedia_search --corpus 'my file.jsonl' --k 1") == (
        "wikipedia_search",
        {"args": ("--corpus", "my file.jsonl", "--k", "1")},
    )
    assert tool_node("far=https://host/mcp?a=b") == ("far", {"urls": ("https://host/mcp?a=b",)})
    assert json.dumps(tool_node("python_coder")) == '["python_coder", {"args": []}]'


async def test_the_python_interface_is_the_same_flow():
    with echo_process() as echo, endpoint() as model:
        async with aiohttp.ClientSession() as http:
            engine = EndpointEngine("toy", EndpointConfig(base_url=model.url, model="toy"), http)
            async with await ToolBox.open([ToolConfig(name="echo", urls=(echo.url,))]) as tools:
                trajectory = await solve("What is 4 plus 4?", dict.fromkeys(MODULES, engine), tools)
    assert (trajectory.answer, len(trajectory.turns)) == ("8", 1)


@pytest.mark.parametrize("named_by", ["--prompts", "--config"])
def test_own_prompts_and_the_format_of_replies_are_settings(tmp_path, named_by):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "verifier.md").write_text("Judge $query.\n---\n$memory")
    node = {"base": {"structured": False}}
    words = ["Why?", "--endpoint", "http://127.0.0.1:9/v1"]
    if named_by == "--prompts":
        words += ["--prompts", str(folder)]
    else:
        node["prompts"] = str(folder)
    (tmp_path / "agent.yaml").write_text(json.dumps(node))  # JSON is YAML
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = settings.Settings.from_args(
        parser.parse_args([*words, "--config", str(tmp_path / "agent.yaml")])
    )
    assert found.prompts["verifier"].system.template == "Judge $query."
    assert found.recorded()["prompts"] == found.prompts.digest
    assert not session._endpoint(found, "base", found.sources["base"], None).structured


async def test_own_prompts_are_what_the_model_is_asked():
    asked = engines()
    own = Prompt.parse("Judge.\n---\n$memory")
    prompts = Prompts({**Prompts.shipped().by_module, "verifier": own})
    await solve("What is 2 * 2?", asked, ScriptedTools("4"), prompts=prompts)
    assert asked["verifier"].seen[0][0]["content"] == "Judge."
    assert asked["planner"].seen[0][0]["content"].startswith("You plan the next turn")


def test_a_wrong_template_is_one_line(tmp_path, capsys):
    (tmp_path / "planner.md").write_text("Plan.\n---\n$query $tools")
    words = ["solve", "Why?", "--endpoint", "http://127.0.0.1:9/v1", "--prompts", str(tmp_path)]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"agentflow solve: --prompts: {tmp_path}/planner.md: the field $memory is missing; the"
        " planner needs it\n"
    )


def test_an_adapter_is_asked_at_the_server_of_its_base(tmp_path):
    write_model(tmp_path)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = settings.Settings.from_args(
        parser.parse_args(["Why?", "--model", str(tmp_path), "--planner-model", "adapter"])
    ).sources
    assert found == {
        "policy": settings.Source(str(tmp_path), "adapter"),
        "base": settings.Source(str(tmp_path)),
    }
