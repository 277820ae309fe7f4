"""A run over two machines, each with a loopback of its own: network namespaces that a pair of
virtual interfaces connects. The tools are embedded, so the second machine's worker calls those of
the first. Their token is in no log, file or command line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from agentflow_verl.tools.embedded.server_process import SERVERS_TOKEN
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome
from tests.e2e.runs import write_questions

ROOT = Path(__file__).parents[2]
INTERFACE = "net0"
ADDRESSES = {"head": "10.77.0.1", "other": "10.77.0.2"}
PORT = 6399


class Machine:
    """A network namespace with a host name of its own."""

    def __init__(self, name: str):
        self.name = f"agentflow-{os.getpid()}-{name}"
        self.host = f"machine-{name}"

    def command(self, *words: str) -> list[str]:
        script = f'hostname {self.host}; exec "$@"'
        return [
            "ip",
            "netns",
            "exec",
            self.name,
            "unshare",
            "--uts",
            "sh",
            "-c",
            script,
            "-",
            *words,
        ]


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


def wait_for_ray(log: Path) -> None:
    give_up = time.monotonic() + 300
    while "will now block" not in log.read_text():
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(1)


def tokens_of(started: list[subprocess.Popen], seen: set[str], shown: set[str]) -> None:
    """Add the tokens of the tool servers below these processes to ``seen``, and the command lines
    that hold one to ``shown``.
    """
    below = [child for each in started for child in psutil.Process(each.pid).children(True)]
    for process in below:
        with suppress(psutil.Error):
            if "--exit-with-parent" in process.cmdline():
                seen |= {process.environ().get(SERVERS_TOKEN)} - {None}
    for process in below:
        with suppress(psutil.Error):
            shown |= {word for word in process.cmdline() if any(token in word for token in seen)}


def files_with(token: str, *folders: Path) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if token.encode() in file.read_bytes()]


@pytest.fixture
def machines() -> Iterator[dict[str, Machine]]:
    made = {name: Machine(name) for name in ADDRESSES}
    if shutil.which("ip") is None:
        pytest.skip("needs ip (iproute2)")
    with ExitStack() as stack:
        try:
            for machine in made.values():
                run("ip", "netns", "add", machine.name)
                stack.callback(run, "ip", "netns", "del", machine.name)
            ends = [word for machine in made.values() for word in (INTERFACE, machine.name)]
            run(
                *("ip", "link", "add", ends[0], "netns", ends[1]),
                *("type", "veth", "peer", "name", ends[2], "netns", ends[3]),
            )
            for name, machine in made.items():
                inside = ("ip", "-n", machine.name)
                run(*inside, "addr", "add", f"{ADDRESSES[name]}/24", "dev", INTERFACE)
                run(*inside, "link", "set", INTERFACE, "up")
                run(*inside, "link", "set", "lo", "up")
                run(*machine.command("true"))
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"no network namespaces here: {refused.stderr.decode().strip()}")
        yield made


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.sandbox
@pytest.mark.timeout(1200)
def test_workers_of_another_machine_call_the_tools_that_the_run_started(machines, tmp_path):
    write_questions(tmp_path)
    short = Path("/tmp") / f"ray-{os.getpid()}"  # paths of sockets have 107 characters at most
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "VERL_PLATFORM": "cpu",
        "VLLM_TARGET_DEVICE": "cpu",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "RAY_ADDRESS": f"{ADDRESSES['head']}:{PORT}",
    }
    started: list[subprocess.Popen] = []

    def node(name: str, *words: str) -> None:
        command = ("ray", "start", "--block", "--num-cpus", "16", "--disable-usage-stats")
        where = ("--node-ip-address", ADDRESSES[name])
        started.append(
            subprocess.Popen(
                machines[name].command(*command, *where, *words),
                env={**environment, "RAY_TMPDIR": str(short / name)},
                stdout=(tmp_path / f"{name}.log").open("w"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    try:
        for name in ADDRESSES:
            (short / name).mkdir(parents=True)
        node("head", "--head", "--port", str(PORT), "--num-gpus", "2", "--include-dashboard=false")
        wait_for_ray(tmp_path / "head.log")
        node("other", "--address", environment["RAY_ADDRESS"], "--num-gpus", "1")
        wait_for_ray(tmp_path / "other.log")
        words = [
            *(sys.executable, "-m", "verl.trainer.main_ppo", "--config-dir", str(ROOT / "recipes")),
            *("--config-name", "tiny", "trainer.nnodes=2"),
            *(f"ray_kwargs.ray_init.{name}=null" for name in ("num_cpus", "num_gpus")),
            "ray_kwargs.ray_init.address=auto",
            f"data.train_files={tmp_path}/train.parquet",
            f"data.val_files={tmp_path}/train.parquet",
            f"trainer.default_local_dir={tmp_path}/run",
            f"hydra.run.dir={tmp_path}/hydra",
            "actor_rollout_ref.rollout.agent.num_workers=2",
        ]
        output = tmp_path / "output.log"
        training = subprocess.Popen(
            machines["head"].command(*words),
            env={**environment, "RAY_TMPDIR": str(short / "head")},
            cwd=ROOT,
            stdout=output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(training)
        give_up = time.monotonic() + 900
        seen: set[str] = set()
        shown: set[str] = set()
        while training.poll() is None:
            assert time.monotonic() < give_up, output.read_text()[-3000:]
            tokens_of([each for each in started if each.poll() is None], seen, shown)
            time.sleep(0.5)
        assert training.returncode == 0, output.read_text()[-6000:]
        (token,) = seen
        assert not shown
        assert files_with(token, short, tmp_path) == []
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)
        shutil.rmtree(short, ignore_errors=True)
    results: dict[str, int] = {}
    for file in (tmp_path / "run/trajectories/train").glob("*/*.jsonl"):
        host = file.name.rpartition("-")[0]
        for line in file.read_text().splitlines():
            trajectory = ScoredTrajectory.model_validate_json(line).trajectory
            assert trajectory.outcome is not Outcome.INFRA_ERROR
            found = [turn.result for turn in trajectory.turns if turn.result is not None]
            results[host] = results.get(host, 0) + len(found)
    assert set(results) == {machine.host for machine in machines.values()}
    assert all(results.values()), results
