"""The documentation, followed: its commands as they stand in the page, run in a folder that has
what the page speaks of.

What cannot stand in a page for good is replaced: ports, by free ones, and ``<your model>`` and its
like (``PLACEHOLDER``). ``WHERE`` says of every other command of the pages which test runs it, or
what it needs that no test has.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import commands
from tests.commands import ROOT, block
from tool_servers.common.sockets import shared

BASE = ROOT / "recipes/quickstart/base"
BIN = Path(sys.executable).parent
ON_A_CPU = (
    "platform=cpu",
    "data.train_batch_size=2",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "actor_rollout_ref.rollout.n=2",
    "data.max_prompt_length=900",
    "data.max_response_length=48",
    "actor_rollout_ref.rollout.max_model_len=1024",
    "agentflow.base.max_tokens=96",
    "agentflow.max_turns=2",
    "trainer.n_gpus_per_node=1",
    "trainer.val_before_train=false",
    "trainer.total_epochs=10",
    "trainer.logger=[console]",
)
"""What a command for GPUs needs besides, to run here with ``BASE``."""

GPU, HUB, CLUSTER = "needs GPUs", "needs the model hub", "needs several machines"
WHERE = {
    "README.md": {
        "agentflow view": "docs/viewer.md",
        "agentflow solve": "docs/evaluation.md",
        "agentflow eval": "docs/evaluation.md",
        "git clone": "by hand: the address is a placeholder",
        "cd": "by hand: the folder that git clone makes",
        "python -m verl.trainer.main_ppo": "docs/train.md",
        "bash recipes/quickstart/run.sh": "tests/guides/test_guides.py",
        "bash tests/run.sh": "this",
        "bash install.sh": "tests/test_gpu_stack.py",
    },
    "tests/gpu/README.md": {
        "python -m tests.gpu.measure": "tests/gpu/test_measure.py",
        "python -m pytest": "this",
    },
    "CONTRIBUTING.md": {
        "bash install.sh": "bash tests/run.sh",
        ".ci/run": "this",
        "python -m pytest": "this",
        "pre-commit install": "tests/guides/test_guides.py",
        "bash scripts/": "this",
        "python -m pdoc": "tests/test_checks.py",
    },
    "tool_servers/README.md": {
        "python -m tool_servers.stdio": "tests/tool_servers/test_third_party.py"
    },
    "docs/engines.md": {
        "bash install.sh .venv-sg sglang": "tests/test_gpu_stack.py",
        "bash install.sh .venv cpu-sglang,dev": "bash tests/run.sh",
    },
    "docs/evaluation.md": {
        "agentflow eval --benchmarks bamboogle --model PATH": (
            "tests/evaluation/test_quickstart_models.py"
        ),
        "agentflow eval --benchmarks val": "tests/evaluation/test_data_files.py",
        "vllm serve": "tests/evaluation/test_model_server.py",
        "python -m verl.model_merger": "docs/train.md",
        "agentflow analyse": "tests/evaluation/test_analyses.py",
    },
    "docs/evidence.md": {
        "python -m tests.benchmarks.rollout": "by hand: its figures are in the page",
        "python -m tests.benchmarks.real_model": "by hand: it needs a real model",
        "python - ": "tests/evaluation/test_quickstart_models.py",
        "python -m verl.model_merger": "docs/train.md",
        "agentflow eval --compare RUN-frozen": "tests/evaluation/test_quickstart_models.py",
        "agentflow eval --model FOLDER --planner": "tests/recipes/test_small_model.py",
    },
    "docs/flow_grpo.md": {"agentflow analyse": "tests/evaluation/test_analyses.py"},
    "docs/recovery.md": {"python -m verl.trainer.main_ppo": "tests/e2e/test_recovery.py"},
    "docs/rollouts.md": {
        "agentflow replay outputs/my-run": "tests/flow/test_replay.py",
    },
    "docs/run_at_scale.md": {
        "agentflow plan": "tests/trainer/sizing/test_plan.py",
        "ray": CLUSTER,
        "python -m verl.trainer.main_ppo": CLUSTER,
        "python -m tool_servers.python_coder": "tests/guides/test_guides.py",
        "python -m tool_servers.wikipedia_search": "tests/guides/test_guides.py",
    },
    "docs/train.md": {
        "bash install.sh .venv vllm": "tests/test_gpu_stack.py",
        "bash install.sh": "bash tests/run.sh",
        "source": "bash tests/run.sh",
    },
    "recipes/README.md": {"python -m verl.trainer.main_ppo": GPU},
    "recipes/async/README.md": {"bash recipes/async/run.sh": GPU},
    "recipes/base_models/README.md": {"bash recipes/base_models/run.sh": GPU},
    "recipes/multi_node/README.md": {
        "ray": CLUSTER,
        "bash recipes/multi_node/run.sh": CLUSTER,
        "bash recipes/multi_node/try.sh": "tests/guides/test_guides.py",
        "python -m tool_servers.python_coder": "docs/run_at_scale.md",
    },
    "recipes/one_gpu/README.md": {"bash recipes/one_gpu/run.sh": GPU},
    "recipes/own/README.md": {
        "bash recipes/own/run.sh": "tests/recipes/test_own.py",
        "python recipes/paper_data/prepare.py": "tests/recipes/test_paper_data.py",
        "python -m verl.trainer.main_ppo": GPU,
    },
    "recipes/paper/README.md": {
        "bash install.sh": "tests/test_gpu_stack.py",
        "source": "bash tests/run.sh",
        "bash recipes/paper/run.sh": GPU,
    },
    "recipes/paper_data/README.md": {
        "bash recipes/paper_data/run.sh": HUB,
        "python recipes/paper_data/prepare.py": "tests/recipes/test_paper_data.py",
    },
    "recipes/quickstart/README.md": {
        "bash recipes/quickstart/run.sh": "tests/guides/test_guides.py",
        "source": "bash tests/run.sh",
        "agentflow view": "docs/viewer.md",
        "python recipes/quickstart/base_model.py": "by hand, 18 minutes",
    },
    "recipes/small_model/README.md": {
        "bash install.sh": "bash tests/run.sh",
        "source": "bash tests/run.sh",
        "bash recipes/small_model/run.sh": "tests/recipes/test_small_model.py",
    },
}


def page(name: str) -> list[list[str]]:
    """The page's commands that are run here, in order, but for overrides shown alone."""
    return [
        words
        for words in commands.commands(ROOT / name)
        if "=" not in words[0] and not where(name, words)
    ]


def where(name: str, words: list[str]) -> str | None:
    """Which test runs a command, None where the walk through its page does."""
    line = " ".join(words)
    return next(
        (place for known, place in WHERE.get(name, {}).items() if line.startswith(known)), None
    )


def environment(**more: str) -> dict[str, str]:
    """As in an activated environment, in a checkout."""
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        **more,
    }


def replaced(words: list[str], values: dict[str, str]) -> list[str]:
    for old, new in values.items():
        words = [word.replace(old, new) for word in words]
    return words


def run(words: list[str], folder: Path, timeout: float = 120, **more: str) -> str:
    """Run to its end, which must be a good one; what it printed."""
    done = subprocess.run(
        words, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


@contextlib.contextmanager
def running(
    words: list[str], folder: Path, says: str, patience_s: float = 60.0, **more: str
) -> Iterator[str]:
    """Until it has printed a line with ``says``, which is given; interrupted afterwards as by a
    person.
    """
    with subprocess.Popen(
        words,
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield next(line for line in lines(process, patience_s) if says in line)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                process.kill()


def lines(process: subprocess.Popen, patience_s: float) -> Iterator[str]:
    give_up, said = time.monotonic() + patience_s, b""
    while select.select([process.stdout], [], [], max(0.0, give_up - time.monotonic()))[0]:
        part = os.read(process.stdout.fileno(), 1 << 16)
        if not part:
            break
        *whole, said = (said + part).split(b"\n")
        yield from (line.decode() for line in whole)
    raise AssertionError(
        f"{process.args}: not what it should have said, but last {said.decode()!r}"
    )


def prepared(folder: Path) -> list[list[str]]:
    """The training guide's questions, and its commands."""
    subprocess.run([sys.executable, "-c", block("docs/train.md", "* 32")], cwd=folder, check=True)
    return page("docs/train.md")


def on_a_cpu(words: list[str], *more: str) -> list[str]:
    end = ("trainer.total_training_steps=1", "trainer.save_freq=1", "trainer.test_freq=-1", *more)
    return [*replaced(words, {"PLACEHOLDER": str(BASE)}), *ON_A_CPU, *end]


def free_port() -> str:
    [listener] = shared("127.0.0.1", 0, 1)
    with listener:
        return str(listener.getsockname()[1])
