"""A run over two machines, each with a loopback of its own: network namespaces that a pair of
virtual interfaces connects. The tools are embedded, so the second machine's worker calls those of
the first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

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
        done = subprocess.run(
            machines["head"].command(*words),
            env={**environment, "RAY_TMPDIR": str(short / "head")},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
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
