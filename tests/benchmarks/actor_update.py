"""The actor's update with flow_grpo against verl's own grpo, on the same rows: ``python -m
tests.benchmarks.actor_update --json FILE``.

verl's FSDP2 worker on one device, forward, backward and AdamW step of one mini-batch. Each loss has
a process of its own, so that neither meets the other's memory; after one update that does not
count, the median of the rest. Seconds and peak memory are the clock's and the allocator's on a GPU;
on a CPU they are the process's own, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from tensordict import TensorDict

from tests.benchmarks.device import attention, clock, enter, make_worker, peak_bytes
from tests.trainer.sizing.measured import Peak, held_bytes

logger = logging.getLogger("actor_update")
LOSSES = ("flow_grpo", "grpo")


def rows_of(count: int, prompt: int, response: int, vocabulary: int, weighted: bool) -> TensorDict:
    """``count`` rows as the trainer hands them over; only ``weighted`` ones carry flow_grpo's
    column.
    """
    from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(
        max(1, response // 2), response + 1, (count,), generator=generator
    ).tolist()
    advantage = torch.randn(count, generator=generator).tolist()
    ids = [torch.randint(vocabulary, (prompt + length,), generator=generator) for length in lengths]
    fields = {
        "prompts": [row[:prompt] for row in ids],
        "responses": [row[prompt:] for row in ids],
        "input_ids": ids,
        "attention_mask": [torch.ones_like(row) for row in ids],
        "position_ids": [torch.arange(len(row)) for row in ids],
        "response_mask": [torch.ones(length) for length in lengths],
        "loss_mask": [torch.ones(length) for length in lengths],
        "old_log_probs": [torch.full((length,), -1.0) for length in lengths],
        "advantages": [torch.full((length,), one) for length, one in zip(lengths, advantage)],
    }
    if weighted:
        fields[LOSS_WEIGHT] = [torch.full((length,), 1 / (count * length)) for length in lengths]
    batch = {
        name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
        for name, values in fields.items()
    }
    return TensorDict(batch, batch_size=count)


def measure(_: int, loss: str, given: argparse.Namespace, port: int, answer: Any) -> None:
    device = given.device
    enter(device, port)
    from verl.utils import tensordict_utils as tu

    worker, model = make_worker(str(given.model), device)

    def batch() -> TensorDict:
        data = rows_of(
            given.rows,
            given.prompt,
            given.response,
            model.hf_config.vocab_size,
            loss == "flow_grpo",
        )
        facts = {
            "temperature": 1.0,
            "calculate_entropy": False,
            "global_batch_size": given.rows,
            "distillation_use_topk": False,
        }
        tu.assign_non_tensor(
            data, **facts, use_dynamic_bsz=True, max_token_len_per_gpu=given.max_tokens
        )
        tu.assign_non_tensor(
            data, num_mini_batch=1, epochs=1, seed=1, dataloader_kwargs={"shuffle": False}
        )
        return data

    seconds = []
    for _round in range(given.rounds + 1):
        data = batch()
        start = clock(device)
        worker.train_mini_batch(data)
        seconds.append(clock(device) - start)
    peak = peak_bytes(device)
    found = {"seconds": statistics.median(seconds[1:]), "peak_gib": peak / 2**30}
    if device == "cpu":  # where most of a small model's process is its imports
        data = batch()
        with Peak() as tensors:
            worker.train_mini_batch(data)
        found["tensors_gib"] = (tensors.most + sum(held_bytes(worker).values())) / 2**30
    answer.put(found)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Both losses, one after the other, and what ours costs more."""
    found: dict[str, Any] = {
        name: getattr(given, name) for name in ("device", "rows", "prompt", "response", "rounds")
    } | {"model": str(given.model)}
    found["attention"] = attention(given.device)[0]
    if given.device != "cpu":
        found["gpu"] = torch.cuda.get_device_name()
    for loss in LOSSES:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        answer = multiprocessing.get_context("spawn").SimpleQueue()
        multiprocessing.spawn(measure, (loss, given, port, answer), nprocs=1, join=True)
        found[loss] = answer.get()
    found["time_ratio"] = found["flow_grpo"]["seconds"] / found["grpo"]["seconds"]
    found["memory_ratio"] = found["flow_grpo"]["peak_gib"] / found["grpo"]["peak_gib"]
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--model", default="recipes/quickstart/base", help="folder or hub id (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a row's prompt")
    parser.add_argument("--response", type=int, default=64, help="most tokens of a row's response")
    parser.add_argument("--max-tokens", type=int, default=16_384, help="of a micro-batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds of a quarter of the rows")
    given = parser.parse_args(arguments)
    if given.quick:
        given.rows, given.rounds = given.rows // 4, 2
    return given


def main() -> None:
    given = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    found = compare(given)
    logger.info(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
