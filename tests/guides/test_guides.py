"""Each guide, followed as it is written; whole runs are ``-m slow``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pandas
import pytest

from agentflow_verl.trajectories.records import Trajectory
from tests import commands
from tests.commands import PAGES, ROOT, block
from tests.evaluation import fakes
from tests.guides import walk
from tests.guides.walk import (
    BASE,
    WHERE,
    free_port,
    on_a_cpu,
    page,
    prepared,
    replaced,
    run,
    running,
)
from tests.tools.servers import echo_process
from tests.view.logs import CONTROL, RUN

NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
TOKEN = "a-token-for-the-tests"
SMALL_SERVER = "--dtype float32 --max-model-len 1536 --max-num-seqs 8 --enforce-eager"
VLLM = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def questions(folder: Path, *names: str) -> None:
    fakes.write_questions(folder, **{name: fakes.SUMS[:2] for name in names})


def hub_rows(path: Path) -> None:
    """GSM8K's columns, with questions that the quickstart's base knows."""
    solution = "Both are multiples of 2, and of nothing larger.\n#### 2"
    rows = {
        "question": [
            f"What is the greatest common divisor of {2 * n} and {2 * n + 2}?" for n in range(4, 36)
        ],
        "answer": [solution] * 32,
    }
    pandas.DataFrame(rows).to_parquet(path)


# ---- no command is left out ----


def test_every_command_is_run_somewhere():
    source = Path(__file__).read_text() + Path(walk.__file__).read_text()
    for name in NAMES:
        assert f'page("{name}")' in source or not page(name), f"{name}: nobody runs {page(name)[0]}"


def test_what_is_said_to_run_elsewhere_is_there():
    for name, places in WHERE.items():
        for known, place in places.items():
            assert any(
                " ".join(words).startswith(known) for words in commands.commands(ROOT / name)
            ), f"{name} has no {known!r} any more"
            assert not place.startswith(("tests/", "docs/")) or (ROOT / place).exists(), place


# ---- tools ----


@pytest.mark.parametrize(
    "words", page("tool_servers/README.md"), ids=lambda words: " ".join(words)[:50]
)
def test_the_tool_servers_of_their_page_start(words, tmp_path):
    started(words, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        words
        for words in commands.commands(ROOT / "docs/run_at_scale.md")
        if words[:2] == ["python", "-m"] and "tool_servers" in words[2]
    ],
)
def test_the_tool_servers_of_a_host_of_their_own_start(words, tmp_path):
    started(words, tmp_path, AGENTFLOW_TOOL_TOKEN=TOKEN)


def started(words: list[str], folder: Path, **more: str) -> None:
    (folder / "corpus.jsonl").write_text(
        json.dumps({"title": "Rome", "text": "A city on seven hills."}) + "\n"
    )
    if words[0] == "agentflow":
        with running(words, folder, "python_coder: {urls:"):
            return
    words = replaced(words, {port: free_port() for port in ("8101", "8102")})
    with running(words, folder, '"event": "listening"', **more) as line:
        port = json.loads(line)["port"]
        assert str(port) in words
        assert (
            json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"))["status"] == "ok"
        )


def test_tools_of_a_file(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        json.dumps({"title": "Rome", "text": "A city on seven hills."}) + "\n"
    )
    (tmp_path / "tools.yaml").write_text("wikipedia_search: {args: [--corpus, corpus.jsonl]}\n")
    [words] = page("docs/tools.md")
    with running(words, tmp_path, "wikipedia_search: {urls: [http://127.0.0.1:"):
        pass


def roman(body: dict) -> str:
    return {
        "planner": "Justification: it is asked for\nContext: 1994\nSub-goal: write it\nTool: roman",
        "executor": '{"number": 1994}',
        "generator": "<answer>MCMXCIV</answer>",
    }.get(fakes.module_of(body)) or fakes.right(body)


def test_a_tool_is_added(tmp_path):
    (tmp_path / "roman.py").write_text(block("docs/add_a_tool.md", "roman"))
    serve, look, ask, _ = page("docs/add_a_tool.md")
    with fakes.endpoint(roman) as model:
        values = {"8200": free_port(), "http://127.0.0.1:8000/v1": model.url}
        with running(replaced(serve, values), tmp_path, "running on"):
            assert "roman(number)" in run(replaced(look, values), tmp_path)
            assert run(replaced(ask, values), tmp_path).endswith("=== answered: MCMXCIV\n")


def test_an_own_tool_is_served_and_listed(tmp_path):
    shutil.copytree(ROOT / "recipes/own", tmp_path / "recipes/own")
    serve, look = page("recipes/own/README.md")
    values = {"8120": free_port()}
    with running(replaced(serve, values), tmp_path, '"event": "listening"'):
        assert "unit_converter(" in run(replaced(look, values), tmp_path)


# ---- looking and measuring ----


def test_runs_are_looked_at(tmp_path):
    for name, recorded in (("RUN_DIR", RUN), ("OTHER_RUN_DIR", CONTROL)):
        shutil.copytree(recorded, tmp_path / name)
    one, elsewhere, two, served = page("docs/viewer.md")
    for words, made in (
        (one, "RUN_DIR/view.html"),
        (elsewhere, "page.html"),
        (two, "RUN_DIR/view.html"),
    ):
        run(words, tmp_path)
        assert (tmp_path / made).stat().st_size > 10_000
        (tmp_path / made).unlink()
    with running([*served, "--port", "0"], tmp_path, "http://127.0.0.1:") as line:
        url = re.search(r"http://[\d.:]+/", line)[0]
        assert "<html" in urllib.request.urlopen(url).read().decode()


def test_an_agent_is_measured_and_compared(tmp_path):
    questions(tmp_path / "DIR", "bamboogle", "aime24")
    measure, compare, one = page("docs/evaluation.md")
    with echo_process() as echo:
        tool = ("--tool", f"echo={echo.url}")
        for folder, says in (("RUN_A", fakes.wrong), ("RUN_B", fakes.right)):
            with fakes.endpoint(says) as model:
                run(
                    replaced(
                        [*measure, *tool], {"http://127.0.0.1:8000/v1": model.url, "RUN": folder}
                    ),
                    tmp_path,
                )
            assert (tmp_path / folder / "report.md").exists()
        assert "bamboogle" in run(compare, tmp_path)
        with fakes.endpoint() as model:
            assert "=== answered:" in run(
                replaced([*one, *tool], {"http://127.0.0.1:8000/v1": model.url}), tmp_path
            )


def test_an_agent_is_asked_from_python(tmp_path):
    with fakes.endpoint(
        lambda body: (
            fakes.right(body).replace("echo", "python_coder").replace('"text": "', '"code": "')
        )
    ) as model:
        program = block("docs/evaluation.md", "asyncio.run").replace(
            "http://127.0.0.1:8000/v1", model.url
        )
        assert (
            run([sys.executable, "-c", program], tmp_path).splitlines()[-1] == "34"
        )  # what the fake makes of 17


def test_an_answer_is_replayed(tmp_path):
    ask, replay = page("docs/rollouts.md")
    with echo_process() as echo, fakes.endpoint() as model:
        ask = [
            model.url if word == "PLACEHOLDER" and before == "--endpoint" else word
            for before, word in zip(["", *ask], ask)
        ]
        run(
            [*replaced(ask, {"PLACEHOLDER": "What is 4 plus 4?"}), "--tool", f"echo={echo.url}"],
            tmp_path,
        )
    assert Trajectory.model_validate_json((tmp_path / "answer.json").read_text()).answer == "8"
    assert "1 replayed (1 answered), 0 different" in run(replay, tmp_path)


# ---- training ----


def test_the_training_guide_begins_with_a_doctor_who_is_content(tmp_path):
    doctor = prepared(tmp_path)[0]
    files = (
        "data.train_files=train.parquet",
        "data.val_files=val.parquet",
        "trainer.default_local_dir=runs/first",
        "data.max_prompt_length=900",
        "data.max_response_length=48",
    )
    assert run(
        [*doctor, f"actor_rollout_ref.model.path={BASE}", *files], tmp_path, timeout=300
    ).endswith("ready\n")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_training_guide_to_its_end(tmp_path):
    """With a data set in the form of the hub, converted as the guide says; the evaluation reads it
    as it is.
    """
    _, train, look, merge, measure = prepared(tmp_path)
    hub_rows(tmp_path / "gsm8k.parquet")
    convert = f"import pandas\n{block('docs/train.md', 'hub =')}"
    subprocess.run([sys.executable, "-c", convert], cwd=tmp_path, check=True)
    run(on_a_cpu(train), tmp_path, timeout=800)
    with running([*look, "--port", "0"], tmp_path, "http://127.0.0.1:"):
        pass
    run(replaced(merge, {"global_step_32": "global_step_1"}), tmp_path, timeout=300)
    questions(tmp_path / "BENCHMARKS", "bamboogle", "aime24")
    shutil.move(tmp_path / "gsm8k.parquet", tmp_path / "BENCHMARKS")
    small = ("--max-tokens", "48", "--memory-tokens", "300", "--vllm-args", SMALL_SERVER)
    small = ("--config", "runs/first/hydra/.hydra/config.yaml", *small)  # with the run's prompts
    here = {"PLACEHOLDER": str(BASE), "bamboogle,aime24": "bamboogle,aime24,gsm8k"}
    run([*replaced(measure, here), *small], tmp_path, timeout=800, **VLLM)
    report = (tmp_path / "runs/first/eval/report.md").read_text()
    assert "aime24" in report and "gsm8k" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["docs/swap_the_model.md", "docs/write_a_reward.md", "docs/add_a_tool.md"]
)
def test_the_training_command_of_another_guide(name, tmp_path):
    prepared(tmp_path)
    (tmp_path / "my_reward.py").write_text(block("docs/write_a_reward.md", "compute_score"))
    (tmp_path / "roman.py").write_text(block("docs/add_a_tool.md", "roman"))
    train = {
        "docs/swap_the_model.md": page("docs/swap_the_model.md"),
        "docs/write_a_reward.md": page("docs/write_a_reward.md"),
        "docs/add_a_tool.md": page("docs/add_a_tool.md")[-1:],
    }[name][0]
    port = free_port()
    with running(["python", "roman.py", "--port", port], tmp_path, "running on"):
        run(
            on_a_cpu(replaced(train, {"8200": port}), "trainer.default_local_dir=run"),
            tmp_path,
            timeout=800,
        )
    assert list((tmp_path / "run/trajectories/train").rglob("*.jsonl"))


@pytest.mark.slow
def test_the_first_step_of_the_quickstart(tmp_path):
    """The README's command, with the environment of the tests and a folder of its own for what it
    makes.
    """
    venv = Path(sys.executable).parents[1]
    run(
        ["bash", str(ROOT / "recipes/quickstart/run.sh")],
        tmp_path,
        timeout=900,
        STEPS="1",
        OUT=str(tmp_path / "out"),
        AGENTFLOW_VENV=str(venv),
    )
    assert json.loads((tmp_path / "out/summary.json").read_text())
    assert (tmp_path / "out/learning_curve.png").stat().st_size > 10_000


@pytest.mark.slow
def test_two_nodes_on_this_machine():
    run(["bash", "recipes/multi_node/try.sh"], ROOT, timeout=900)


# ---- changing something ----


@pytest.mark.slow  # mypy for everything, once more
def test_the_hooks_pass_before_a_commit(tmp_path):
    """CONTRIBUTING's ``pre-commit install``, in a repository with the hooks' configuration."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    no_models = shutil.ignore_patterns("__pycache__", "base")
    for folder in ("agentflow_verl", "tool_servers", "recipes", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=no_models)
    run(["git", "init", "-q"], tmp_path)
    run(["pre-commit", "install"], tmp_path)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    run(["git", "add", "."], tmp_path)
    run(["git", *who, "commit", "-qm", "right"], tmp_path, timeout=300)
    (tmp_path / "wrong.py").write_text("import os\n\n\nprint(undefined)\n")
    run(["git", "add", "."], tmp_path)
    refused = subprocess.run(
        ["git", *who, "commit", "-qm", "wrong"],
        cwd=tmp_path,
        env=walk.environment(),
        capture_output=True,
        text=True,
    )
    assert refused.returncode and "Undefined name" in refused.stdout + refused.stderr
