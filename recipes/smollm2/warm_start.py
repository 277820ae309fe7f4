"""SmolLM2 learns the agent's formats from the quickstart's scripted agent: ``python warm_start.py
--model DIR --data DIR --out DIR``.

Zero-shot it follows no tool-call format. Examples and batches are those of
../quickstart/base_model.py, which must be on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import random
import time
from pathlib import Path

import torch
from base_model import collect, encode, make_batches, pad, read
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

logger = logging.getLogger("warm_start")
SEARCH = ["--k", "1", "--passage-chars", "50"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder that model.py wrote")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that the quickstart's data.py wrote"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--questions",
        type=int,
        default=600,
        help="of the scripted agent's, of which there are 2,400",
    )
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(given.seed)
    torch.set_flush_denormal(True)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = (
        (given.data / "warm_start.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()[: given.questions]
    )
    asked = [read(line) for line in lines]
    examples = asyncio.run(
        collect(
            asked, given.data / "corpus.jsonl", SEARCH, given.seed, given.out / "tool_servers", []
        )
    )
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    train(model, encode(tokenizer, examples), given)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


def train(
    model: PreTrainedModel, examples: list[tuple[list[int], int]], given: argparse.Namespace
) -> None:
    """Next-token training on the replies alone."""
    rng, started = random.Random(given.seed), time.monotonic()
    lengths = [len(ids) for ids, _ in examples]
    batches = itertools.chain.from_iterable(
        make_batches(lengths, given.batch_tokens, rng) for _ in itertools.count()
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, weight_decay=0.01, fused=True)
    model.gradient_checkpointing_enable()
    model.train()
    for step, batch in zip(range(given.steps), batches):
        ids, labels, weight = pad([examples[index] for index in batch], prompt_weight=0.0)
        labels[weight == 0] = -100
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0 or step == given.steps - 1:
            logger.info("step %d, %.0f s, loss %.4f", step, time.monotonic() - started, loss.item())


if __name__ == "__main__":
    main()
