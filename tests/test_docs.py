"""The documentation is right: its commands parse, its YAML validates, its examples run, its links
lead somewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import verl  # noqa: F401 - registers the configs
import yaml

from agentflow_verl.cli import main as cli
from agentflow_verl.config import schema
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trainer.preflight.checks import SERVERS, check_run
from agentflow_verl.trajectories.records import Outcome, Trajectory, Turn
from tests import commands
from tests.commands import PAGES, ROOT
from tests.guides.walk import free_port

ALL = [(page, words) for page in PAGES for words in commands.commands(page)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_commands_are_found_in_every_shape():
    found = {" ".join(words) for _, words in ALL}
    assert "bash tests/run.sh" in found  # fenced, with a comment after it
    assert "agentflow tools up --config tools.yaml" in found  # after a prompt
    assert "agentflow eval --compare RUN_A RUN_B" in found  # indented
    assert any(
        line.startswith("python -m verl.trainer.main_ppo") and "data.val_files=val.parquet" in line
        for line in found
    )  # over several lines
    assert len(found) > 40


@pytest.mark.parametrize(
    ("page", "words"), ALL, ids=[f"{name_of(page)}: {' '.join(words)[:60]}" for page, words in ALL]
)
def test_a_command_of_the_documentation_is_one_that_its_program_takes(page, words):
    commands.check(words)


@pytest.mark.parametrize(
    "line",
    [
        "agentflow veiw RUN",
        "agentflow eval --trails 3",
        "agentflow doctor agentflow.max_turn=3",
        "agentflow doctor +agentflow.max_turn=3",
        "python -m verl.trainer.main_ppo --config-name agentflow actor_rollout_ref.model.paht=x",
        "python -m tool_servers.python_coder --prot 8101",
        "python -m tool_servers.python_encoder",
        "python recipes/quickstart/report.py --runn x",
        "bash recipes/quickstart/run.sh --sead 1",
        "bash recipes/quickstart/go.sh",
        "pytest tests/nowhere",
        "+agentflow.tools.x.url=http://a/mcp",
        "pip install .[gpu]",
        "agentflw view RUN",
    ],
)
def test_a_wrong_command_would_be_found(line):
    with pytest.raises((Exception, SystemExit)):
        commands.check(line.split())


INLINE = [
    (page, span)
    for page in PAGES
    for span in re.findall(
        r"`((?:agentflow|python -m tool_servers\.\w+|python -m tests\.\w+)(?: [^`\n]*)?)`",
        page.read_text(encoding="utf-8"),
    )
]


@pytest.mark.parametrize(
    ("page", "span"), INLINE, ids=[f"{name_of(page)}: {span[:60]}" for page, span in INLINE]
)
def test_commands_within_sentences_name_what_exists(page, span):
    """They may be cut short, so names and flags are looked up, not parsed."""
    program, *words = span.replace("[", " ").replace("]", " ").split()
    if program == "agentflow":
        sources = list((ROOT / "agentflow_verl/cli").glob("*.py"))
        assert not words or f'"{words[0]}"' in "".join(
            path.read_text(encoding="utf-8") for path in sources
        ), span
    else:
        folder = (
            ROOT / words[1].replace(".", "/")
            if words[1] != "tool_servers.NAME"
            else ROOT / "tool_servers"
        )
        sources = [
            *folder.glob("*.py"),
            *folder.parent.glob("common/*.py"),
            *filter(Path.exists, [folder.with_suffix(".py")]),
        ]
        assert sources, span
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert not [
        word
        for word in words
        if word.startswith("--") and word != "--" and f'"{word.split("=")[0]}"' not in text
    ], span


YAML = [
    (page, block)
    for page in PAGES
    for block in commands.blocks(page, "yaml")
    if block.startswith("agentflow:")
]


@pytest.mark.parametrize(("page", "block"), YAML, ids=[name_of(page) for page, _ in YAML])
def test_configuration_in_the_documentation_passes_the_schema(page, block):
    node = yaml.safe_load(block)["agentflow"]
    endpoints = {
        name: {"base_url": "http://a/v1", "model": "m"}
        for name in node.get("engines", {}).values()
        if name not in schema.BUILT_IN_ENGINES
    }
    schema.load(
        {
            "tools": {"python_coder": {}},
            **node,
            "endpoints": {**endpoints, **node.get("endpoints", {})},
        }
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{name_of(page)}: {target}"


@pytest.mark.parametrize(
    "guide",
    [
        "train",
        "evaluation",
        "add_a_tool",
        "write_a_reward",
        "swap_the_model",
        "run_at_scale",
        "debug_a_bad_run",
        "security",
    ],
)
def test_the_readme_leads_to_the_guide(guide):
    assert f"(docs/{guide}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


# ---- the examples, as they stand ----


def test_the_rows_of_the_training_guide_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(commands.block("docs/train.md", "* 32"), made)
    assert len(pandas.read_parquet("train.parquet")) == 32
    check_rows_of_the_training_guide()
    solution = "48/2=<<48/2=24>>24\\n48+24=72\\n#### 72"
    hub = {"question": ["How many are 48 and half as many?"] * 32, "answer": [solution] * 32}
    pandas.DataFrame(hub).to_parquet("gsm8k.parquet")
    exec(commands.block("docs/train.md", "hub ="), made)
    assert pandas.read_parquet("train.parquet")["data_source"][0] == "gsm8k"
    check_rows_of_the_training_guide()


def check_rows_of_the_training_guide():
    """train.parquet and val.parquet, beside the model of the quickstart."""
    base = f"actor_rollout_ref.model.path={ROOT / 'recipes/quickstart/base'}"
    config = commands.composed(
        [
            "platform=cpu",
            base,
            "data.train_files=train.parquet",
            "data.val_files=val.parquet",
            "data.max_prompt_length=900",  # the base reads 2,048 tokens
            "data.max_response_length=48",
            "trainer.default_local_dir=runs/first",
        ]
    )
    check_run(config, without=(SERVERS,))


@pytest.mark.parametrize(("turns", "reward"), [(1, 1.0), (3, 0.8)])
def test_the_reward_of_the_guide_scores(turns, reward):
    space: dict = {}
    exec(commands.block("docs/write_a_reward.md"), space)
    trajectory = Trajectory(
        id="a",
        query="What is 1 + 1?",
        turns=tuple(Turn(index=index) for index in range(turns)),
        answer="2",
        outcome=Outcome.ANSWERED,
    )
    given = space["compute_score"](
        data_source="maths",
        solution_str="2",
        ground_truth="2",
        extra_info={"trajectory": trajectory},
    )
    assert given["score"] == pytest.approx(reward)


async def test_the_tool_of_the_guide_is_listed_and_called(tmp_path):
    (tmp_path / "roman.py").write_text(commands.block("docs/add_a_tool.md"))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "roman.py", "--port", port],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if "running on" in line.lower():
                break
        async with await ToolBox.open(
            [ToolConfig(name="roman", urls=(f"http://127.0.0.1:{port}/mcp",))]
        ) as tools:
            [spec] = tools.specs
            assert (spec.name, spec.notes, spec.cacheable) == (
                "roman",
                "From 1 to 3999; no fractions.",
                True,
            )
            assert (
                await tools.call("roman", {"number": 1994}, Deadline.after(10))
            ).text == "MCMXCIV"
    finally:
        process.kill()
        process.communicate()


def test_the_viewers_command_writes_a_page(tmp_path, capsys):
    run = ROOT / "tests/view/quickstart/run-0"
    assert cli.main(["view", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert "trajectories" in capsys.readouterr().out
