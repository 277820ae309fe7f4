"""The real ``python -m verl.trainer.main_ppo`` as a subprocess, and what it left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas
import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.flow.replies import analysis_of
from agentflow_verl.trajectories.log import ScoredTrajectory, read_log

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
BASE = QUICKSTART / "base"  # a Llama

# At 1.0 three plans with the same reward are common, and a step then has no gradient.
TEMPERATURE = 1.5

REWARD = '''
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """The share of odd token ids in the planner's replies: dense, so that groups have variance."""
    turns = [turn.tokens.response_ids for turn in extra_info["trajectory"].turns if turn.tokens]
    ids = [token for turn in turns for token in turn]
    return {"score": sum(token % 2 for token in ids) / max(1, len(ids))}
'''

FLAT_REWARD = (
    REWARD
    + '''

dense = compute_score


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """Three questions of four have the same reward whatever was said."""
    if int(ground_truth) % 4 == 0:
        return dense(data_source, solution_str, ground_truth, extra_info)
    return {"score": 0.5}
'''
)


@dataclass(frozen=True)
class Run:
    """A finished run: its exit code, what its terminal showed, that and its log, logged metrics by
    step, folder, the temporary folder that it was given, and the inodes in /dev/shm that its
    processes were seen to use: other runs and tests have theirs."""

    code: int
    shown: str
    output: str
    metrics: dict[int, dict[str, float]]
    folder: Path
    temporary: Path
    shared_memory: frozenset[int]


def write_questions(folder: Path, count: int = 16) -> None:
    """``train.parquet``, ``val.parquet`` and two toy rewards."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in (("train", count), ("val", 4)):
        rows = [
            {
                "data_source": "maths",
                "prompt": [
                    {
                        "role": "user",
                        "content": (
                            f"What is the greatest common divisor of {5 * number} and {7 * number}?"
                        ),
                    }
                ],
                "reward_model": {"style": "rule", "ground_truth": str(number)},
                "extra_info": {"split": split, "index": number},
            }
            for number in range(2, 2 + size)
        ]
        pandas.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    (folder / "reward.py").write_text(REWARD)
    (folder / "flat_reward.py").write_text(FLAT_REWARD)


def train(
    model: Path,
    data: Path,
    folder: Path,
    *overrides: str,
    during: Callable[[int], None] | None = None,
    timeout: float = 600,
) -> Run:
    """One run on the CPU platform. ``during`` is called every second with the process id."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"metrics-{time.time_ns()}.jsonl"
    command = [
        *(
            sys.executable,
            "-m",
            "verl.trainer.main_ppo",
            "--config-name",
            "agentflow",
            "platform=cpu",
        ),
        *(
            f"actor_rollout_ref.model.path={model}",
            f"data.train_files={data}/train.parquet",
            f"data.val_files={data}/val.parquet",
        ),
        *(
            "data.train_batch_size=2",
            "actor_rollout_ref.actor.ppo_mini_batch_size=2",
            "actor_rollout_ref.rollout.n=3",
        ),
        *(
            "data.max_prompt_length=900",
            "data.max_response_length=48",
            "actor_rollout_ref.rollout.max_model_len=1024",
        ),
        *(
            "agentflow.base.max_tokens=96",
            "agentflow.max_turns=2",
            "actor_rollout_ref.actor.optim.lr=1e-3",
        ),
        *(
            f"actor_rollout_ref.rollout.temperature={TEMPERATURE}",
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=4096",
        ),
        *(
            f"reward.custom_reward_function.path={data}/reward.py",
            f"trainer.default_local_dir={folder}",
            "trainer.logger=[console,file]",
        ),
        *(
            "trainer.val_before_train=false",
            "trainer.total_epochs=10",
            f"hydra.run.dir={folder}/hydra",
        ),
        *overrides,
    ]
    temporary = Path(
        tempfile.mkdtemp(prefix="e2e-")
    )  # not below ``folder``: the path of a socket must be short
    kept = {
        "RAY_TMPDIR": tempfile.gettempdir(),
        "RAY_worker_niceness": "0",
    }  # nice by default, and tests run beside them
    environment = {
        **os.environ,
        **kept,
        "TMPDIR": str(temporary),
        "VERL_FILE_LOGGER_PATH": str(log),
    }
    output, run_log = folder / f"output-{log.stem}.txt", folder / "run.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
        ended = threading.Event()
        seen: set[int] = set()
        threading.Thread(
            target=_every,
            args=(5.0, lambda pid: seen.update(_shared_memory(pid)), process.pid, ended),
            daemon=True,
        ).start()
        if during is not None:
            threading.Thread(
                target=_every, args=(1.0, during, process.pid, ended), daemon=True
            ).start()
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end within {timeout} s: see {run_log}") from None
        finally:
            ended.set()
            if process.poll() is None:  # the tests were interrupted
                process.terminate()
                process.wait(60)
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Run(
        code,
        output.read_text(),
        output.read_text() + (run_log.read_text() if run_log.exists() else ""),
        {entry["step"]: entry["data"] for entry in entries},
        folder,
        temporary,
        frozenset(seen),
    )


def _every(seconds: float, call: Callable[[int], None], pid: int, ended: threading.Event) -> None:
    while not ended.wait(seconds):
        with contextlib.suppress(psutil.Error):  # a process that it looked at has ended
            call(pid)


def _shared_memory(pid: int) -> set[int]:
    """Inodes in /dev/shm that ``pid`` and the processes below it have mapped. Not names: a
    semaphore is mapped under another.
    """
    found = set()
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(OSError):
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                found |= {int(inode) for inode in re.findall(r"(\d+)\s+/dev/shm/", maps)}
    return found


def logged(run: Run) -> list[ScoredTrajectory]:
    return read_log(run.folder / "trajectories", "train")


def assert_frozen_replies_are_the_checkpoints(run: Run, step: int) -> None:
    """What the frozen analyst said in the step is what ``BASE`` says, token for token. The run
    keeps its rows.
    """
    tokenizer, model = (
        AutoTokenizer.from_pretrained(BASE),
        AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32),
    )
    rows = [json.loads(line) for line in (run.folder / "rows" / "1.jsonl").read_text().splitlines()]
    tools = next(
        line
        for row in rows
        for line in row["input"].split("\n")
        if line.startswith("- python_coder")
    )
    for scored in [scored for scored in logged(run) if scored.step == step]:
        messages = Prompts.shipped()["analyst"].render(
            tools=tools, query=scored.trajectory.query, analysis="", memory=""
        )
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        reply = model.generate(torch.tensor([ids]), max_new_tokens=96, do_sample=False)[0][
            len(ids) :
        ]
        text = tokenizer.decode(reply, skip_special_tokens=True)
        assert analysis_of(text) == scored.trajectory.analysis


def assert_nothing_is_left(run: Run) -> None:
    deadline = time.monotonic() + 30
    while (alive := _processes_of(run)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive, alive
    assert not [
        file for file in Path("/dev/shm").iterdir() if file.stat().st_ino in run.shared_memory
    ]
    run.temporary.rmdir()  # it is empty


def _processes_of(run: Run) -> list[str]:
    """Processes that were started with this run's metrics file in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(run.folder) in process.environ().get(
                "VERL_FILE_LOGGER_PATH", ""
            ):
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found
