"""Shared prefixes against verl's own engine, on the same rows: ``python -m
tests.benchmarks.shared_prefix [--quick] --json FILE``.

The three phases of a step that compute rows (old log-probabilities with entropy, reference, update)
through verl's FSDP2 worker on one device. Each shape and way has a process of its own, so that
neither meets the other's memory; ways alternate, and after one round that does not count the median
of the rest stands. On a CPU, seconds are the process's CPU seconds and peak memory the process's
own, on a GPU the clock's and the allocator's, above what it was before the first phase.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import socket
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from tensordict import TensorDict
from torch import Tensor

from tests.benchmarks.device import clock, enter, make_worker, peak_bytes

logger = logging.getLogger("shared_prefix")
PHASES = ("old_log_prob", "ref", "update")
ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests/view/quickstart/run-0/trajectories/train"
Rows = list[tuple[Tensor, Tensor]]


def recorded_rows(folder: Path) -> Rows:
    """Planner turns of the trajectories of a run: prompt and response."""
    rows = []
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for turn in json.loads(line)["trajectory"]["turns"]:
                tokens = turn.get("tokens") or {}
                if tokens.get("prompt_ids") and tokens.get("response_ids"):
                    prompt, response = tokens["prompt_ids"], tokens["response_ids"]
                    rows.append((torch.tensor(prompt), torch.tensor(response)))
    return rows


def made_rows(
    trajectories: int, turns: int, prompt: int, memory: int, response: int, groups: int = 1
) -> Rows:
    """Rows of the paper's shape: a group's first prompt is one, each turn adds memory of its own,
    and what a turn asks for stands after it.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> Tensor:
        return torch.randint(1, 2048, (length,), generator=generator)  # of any model here

    rows = []
    for _ in range(groups):
        first = draw(prompt)
        for _ in range(trajectories):
            so_far = first
            for _ in range(turns):
                rows.append((torch.cat([so_far, draw(8)]), draw(response)))
                so_far = torch.cat([so_far, draw(memory)])
    return rows


VOCABULARY = 4096
MODEL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
}
# (b) and (c) are the paper's 3,000, 800 and 300 tokens of first prompt, memory and reply, a quarter
# of each.
SHAPES = {
    "quickstart": lambda quick: recorded_rows(RECORDED),
    "paper": lambda quick: made_rows(8, 3, 750 // (1 + quick), 200 // (1 + quick), 75),
    "ten turns": lambda quick: made_rows(2 if quick else 4, 10, 750, 200, 75),
    "nothing shared": lambda quick: made_rows(12 if quick else 24, 1, 0, 0, 600),
}
SIZES = (1, 2, 4, 8, 16)
"""Groups of the same shape, for how time grows."""


def batch_of(rows: Rows) -> TensorDict:
    from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT

    rng = random.Random(0)
    whole = [torch.cat(row) for row in rows]
    lengths = [len(response) for _, response in rows]
    fields = {
        "prompts": [prompt for prompt, _ in rows],
        "responses": [response for _, response in rows],
        "input_ids": whole,
        "attention_mask": [torch.ones_like(row) for row in whole],
        "position_ids": [torch.arange(len(row)) for row in whole],
        "response_mask": [torch.ones(length) for length in lengths],
        "loss_mask": [torch.ones(length) for length in lengths],
        "old_log_probs": [torch.full((length,), -8.0) for length in lengths],
        "advantages": [torch.full((length,), rng.gauss(0, 1)) for length in lengths],
        LOSS_WEIGHT: [torch.full((length,), 1 / (len(rows) * length)) for length in lengths],
    }
    batch = {
        name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
        for name, values in fields.items()
    }
    return TensorDict(batch, batch_size=len(rows))


def measure(
    _: int, shared: bool, rows: Rows, model: str, given: argparse.Namespace, port: int, answer: Any
) -> None:
    device = given.device
    enter(device, port)
    from verl.utils import tensordict_utils as tu

    from agentflow_verl.trainer.shared_prefix.engine import SHARED_PREFIX

    worker, _ = make_worker(model, device)

    def data_of(entropy: bool) -> TensorDict:
        data = batch_of(rows)
        tu.assign_non_tensor(
            data,
            temperature=1.0,
            calculate_entropy=entropy,
            global_batch_size=len(rows),
            distillation_use_topk=False,
            use_dynamic_bsz=True,
            max_token_len_per_gpu=given.max_tokens,
            **{SHARED_PREFIX: shared},
        )
        return data

    def run(phase: str) -> None:
        data = data_of(entropy=phase == "old_log_prob")
        if phase == "update":
            tu.assign_non_tensor(
                data, num_mini_batch=1, epochs=1, seed=1, dataloader_kwargs={"shuffle": False}
            )
            worker.train_mini_batch(data)
        else:
            tu.assign_non_tensor(data, compute_loss=False)
            worker.infer_batch(data)

    before = peak_bytes(device)
    seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for _round in range(given.rounds + 1):
        for phase in PHASES:
            start = clock(device)
            run(phase)
            seconds[phase].append(clock(device) - start)
    peak = peak_bytes(device) - before
    medians = {phase: statistics.median(values[1:]) for phase, values in seconds.items()}
    answer.put({"seconds": medians, "peak_mib": peak / 2**20})


def run_apart(shared: bool, rows: Rows, model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """``measure`` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = multiprocessing.get_context("spawn").SimpleQueue()
    multiprocessing.spawn(
        measure, (shared, rows, str(model), given, port, answer), nprocs=1, join=True
    )
    found: dict[str, Any] = answer.get()
    return found


def compare(name: str, rows: Rows, model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Both ways on one shape, and their ratios: above 1 where sharing takes less."""
    from agentflow_verl.trainer.shared_prefix.tree import PrefixTree

    tokens = sum(len(prompt) + len(response) for prompt, response in rows)
    distinct = PrefixTree.of([torch.cat(row) for row in rows]).size
    ways = defaultdict(list)
    for repeat in range(given.repeats):
        order = (False, True) if repeat % 2 == 0 else (True, False)
        for shared in order:
            ways[shared].append(run_apart(shared, rows, model, given))
    found: dict[str, Any] = {"rows": len(rows), "tokens": tokens, "distinct": distinct}
    for shared, label in ((False, "flat"), (True, "shared")):
        found[label] = {
            phase: statistics.median(run["seconds"][phase] for run in ways[shared])
            for phase in PHASES
        }
        found[label]["peak_mib"] = statistics.median(run["peak_mib"] for run in ways[shared])
    totals = [sum(found[label][phase] for phase in PHASES) for label in ("flat", "shared")]
    found["speedup"] = totals[0] / totals[1]
    found["memory"] = found["shared"]["peak_mib"] / found["flat"]["peak_mib"]
    logger.info(
        "%s: %d rows, %d tokens, %d distinct (1 in %.2f); %.2f s flat, %.2f s shared: %.2f times"
        " faster with %.2f of the memory",
        name, len(rows), tokens, distinct, tokens / distinct, *totals, found["speedup"],
        found["memory"],
    )  # fmt: skip
    return found


def growth(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """How seconds grow with distinct tokens: the slope between logarithms over a factor of 16."""
    seconds = {}
    for groups in SIZES if not given.quick else SIZES[:3]:
        rows = made_rows(4, 3, 200, 60, 25, groups)
        found = run_apart(True, rows, model, given)["seconds"]
        seconds[groups] = sum(found.values())
    first, last = min(seconds), max(seconds)
    exponent = (
        torch.tensor(seconds[last] / seconds[first]).log2() / torch.tensor(last / first).log2()
    )
    logger.info("seconds grow with the power %.2f of distinct tokens: %s", exponent, seconds)
    return {"seconds": seconds, "exponent": float(exponent)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="under two minutes, smaller shapes")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--only", choices=[*SHAPES, "growth"])
    parser.add_argument("--rounds", type=int, default=2, help="counted rounds in a process")
    parser.add_argument("--repeats", type=int, default=1, help="processes for each way")
    parser.add_argument("--max-tokens", type=int, default=16384, help="of a micro-batch")
    parser.add_argument("--recorded", type=Path, help="trajectories of a run for the first shape")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given.quick:
        given.rounds = 1
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        torch.manual_seed(0)
        Qwen2ForCausalLM(Qwen2Config(**MODEL)).save_pretrained(folder)
        for name, make in SHAPES.items():
            if given.only in (None, name):
                rows = make(given.quick)
                model = Path(folder)
                if name == "quickstart":
                    model = ROOT / "recipes/quickstart/base"
                    if given.recorded:
                        rows = recorded_rows(given.recorded)
                results[name] = compare(name, rows, model, given)
        if given.only in (None, "growth"):
            results["growth"] = growth(Path(folder), given)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
