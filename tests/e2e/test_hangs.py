"""Each trainer mode with something that hangs: ``pytest tests/e2e/test_hangs.py -m slow``.

In step 1 the executor's calls hang: the page that they fetch, or the program that they run. That is
the model's choice, an observation, and the step is trained as any other. Then a server is stopped
(SIGSTOP), which nobody chose: faults, and the run ends with one line. docs/outcomes.md has the
table.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from agentflow_verl.trajectories.records import Outcome
from tests.e2e.runs import BASE, Run, assert_nothing_is_left, logged, train, write_questions
from tests.e2e.scripted import all_but_the_planner, modules
from tests.e2e.test_modes import SEPARATE
from tests.evaluation.fakes import Model, endpoint
from tests.flow.fakes import CALL

pytestmark = pytest.mark.slow

MODES = {
    "sync": ("trainer.v1.trainer_mode=agentflow_sync",),
    "colocate_async": ("trainer.v1.trainer_mode=agentflow_colocate_async",),
    "separate_async": SEPARATE,
}
PROGRAM = '{"code": "while True: pass"}'
TOOL_S = 4
BY_BASE = ("verifier",)

ENDS = (
    "agentflow.server_timeout_s=60 s",
    "trajectories ended in infrastructure faults",
)


@contextmanager
def silent_host() -> Iterator[str]:
    """The URL of a page whose host accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/page"


def hanging_calls(chosen: str, url: str) -> tuple[str, tuple[str, ...]]:
    """What the executor answers, and the tool for it, under the name that the quickstart's planner
    knows.
    """
    if chosen == "program":
        return PROGRAM, (f"+agentflow.tools.python_coder.args=['--timeout','{TOOL_S}']",)
    tool = (
        "{tools: {web_search: python_coder},"
        f" args: ['--timeout', '{TOOL_S}', '--allow-net', '127.0.0.0/8']}}"
    )
    call = json.dumps({"query": "divisor", "url": url})
    return call, ("~agentflow.tools.python_coder", f"+agentflow.tools.web_search={tool}")


@dataclass
class AfterStep1:
    """Called each second of a run: does something once, when step 1 is logged."""

    folder: Path
    act: Callable[[psutil.Process], None]
    done: list[int] = field(default_factory=list)

    def __call__(self, pid: int) -> None:
        logs = list(self.folder.glob("metrics-*.jsonl"))
        if not self.done and any(log.read_text() for log in logs):
            self.done.append(pid)
            self.act(psutil.Process(pid))


def stop(name: str, place: int) -> Callable[[psutil.Process], None]:
    """Stop the ``place``-th process that is called so, in the order of their start."""

    def act(driver: psutil.Process) -> None:
        children = driver.children(recursive=True)
        found = [child for child in children if " ".join(child.cmdline()).startswith(name)]
        found.sort(key=lambda process: process.create_time())
        found[place].send_signal(signal.SIGSTOP)

    return act


def run_until_it_ends(
    tmp_path: Path,
    model: Model,
    act: Callable[[psutil.Process], None],
    *overrides: str,
    base: Sequence[str] = (),
) -> Run:
    """``base``: modules that the frozen base answers; without any no such server is started."""
    write_questions(tmp_path / "data")
    run = train(
        BASE,
        tmp_path / "data",
        tmp_path / "run",
        "trainer.total_training_steps=9",
        "agentflow.server_timeout_s=60",
        "agentflow.time_budget_s=120",
        *all_but_the_planner(model.url, base),
        *overrides,
        during=AfterStep1(tmp_path / "run", act),
        timeout=1800,
    )
    assert run.code != 0
    assert 1 in run.metrics, run.output[-4000:]
    return run


@pytest.mark.parametrize(
    "mode, chosen, base, stopped",
    [
        pytest.param("sync", "page", (), stop("ray::CpuVllmServer", 0), id="sync-policy"),
        pytest.param(
            "colocate_async", "program", (), stop("VLLM::EngineCore", 0), id="colocate-policy"
        ),
        pytest.param(
            "separate_async", "page", (), stop("ray::CpuVllmServer", 1), id="separate-policy"
        ),
        pytest.param("sync", "program", BY_BASE, stop("ray::CpuVllmServer", -1), id="sync-base"),
        pytest.param(
            "colocate_async", "page", BY_BASE, stop("VLLM::EngineCore", -1), id="colocate-base"
        ),
        pytest.param(
            "separate_async", "program", BY_BASE, stop("ray::CpuVllmServer", -1), id="separate-base"
        ),
    ],
)
def test_what_the_model_chose_is_trained_on_and_a_server_that_hangs_ends_the_run(
    mode: str,
    chosen: str,
    base: Sequence[str],
    stopped: Callable[[psutil.Process], None],
    tmp_path: Path,
) -> None:
    with silent_host() as url:
        call, tool = hanging_calls(chosen, url)
        with endpoint(modules(call)) as model:
            run = run_until_it_ends(tmp_path, model, stopped, *MODES[mode], *tool, base=base)
    first = run.metrics[1]
    assert first["agentflow/outcome/infra_error"] == first["agentflow/outcome/out_of_time"] == 0
    assert first["actor/grad_norm"] > 0
    observations = [
        turn.result
        for scored in logged(run)
        for turn in scored.trajectory.turns
        if scored.step == 1 and turn.call is not None
    ]
    assert observations and all(result.is_error for result in observations), observations
    print(f"{len(observations)} calls hung, as in: {observations[0].text!r}")

    assert sum(end in run.shown for end in ENDS) == 1, run.shown
    print(next(line for line in run.shown.splitlines() if any(end in line for end in ENDS)))
    later = {scored.trajectory.outcome for scored in logged(run) if scored.step > 1}
    assert Outcome.OUT_OF_TIME not in later
    if ENDS[1] in run.shown:
        assert Outcome.INFRA_ERROR in later
    assert_nothing_is_left(run)


def test_groups_of_faults_are_not_asked_for_without_end(tmp_path: Path) -> None:
    """With filter_groups each group of faults is evicted and another one asked for."""
    with endpoint(modules(CALL)) as model:

        def fail(driver: psutil.Process) -> None:
            model.broken = True

        filtered = "algorithm.filter_groups.enable=true"
        run = run_until_it_ends(tmp_path, model, fail, filtered)
    assert ENDS[1] in run.shown, run.shown
    assert_nothing_is_left(run)
