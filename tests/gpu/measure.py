"""What a GPU does with this trainer's own parts: ``python -m tests.gpu.measure --json FILE``, under
eight minutes on one GPU. ``--device cpu --quick`` tries the script itself without one.

No rollout engine and no Ray cluster are needed: tests/gpu/README.md lists the packages. The
attention is flash-attn's where that is installed, PyTorch's else. Parts, each written as soon as it
is measured:

actor_update   the update of one mini-batch with flow_grpo, beside verl's grpo; peak memory, beside
               the estimate of ``agentflow plan``
shared_prefix  old log-probabilities, reference and update, with shared prefixes and without
advantage      advantages and weights, beside verl's function
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import actor_update, flow_grpo, shared_prefix
from tests.benchmarks.device import attention

logger = logging.getLogger("measure")
LIMIT_S = 480
BASE = Path(__file__).parents[2] / "recipes/quickstart/base"
# Qwen2.5-0.5B's shape, with random weights.
HALF_BILLION = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}


def environment(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "attention": attention(device)[0]}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gib": properties.total_memory / 2**30}
    return found


def measure_update(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    words = ["--model", str(model), "--device", given.device, "--rounds", "2"]
    sizes = (16, 64, 16) if given.quick else (24, 4096, 300)
    for name, size in zip(("rows", "prompt", "response"), sizes):
        words += [f"--{name}", str(size)]
    asked = actor_update.parse(words)
    found = actor_update.compare(asked)
    tokens = min(asked.max_tokens, asked.rows * (asked.prompt + asked.response))
    found["estimate_gib"] = estimate(model, given.device, tokens) / 2**30
    return found


def estimate(model: Path, device: str, tokens: int) -> float:
    """Of the update's peak, without what the allocator does not count (CUDA's own)."""
    from agentflow_verl.trainer.sizing.gpu_memory import Serving, Training, parts
    from agentflow_verl.trainer.sizing.model import size_of

    kind, _ = attention(device)
    training = Training(
        ranks=1,
        compute_bytes=4 if device == "cpu" else 2,
        checkpointing=device != "cpu",
        update_tokens=tokens,
        shares_prefixes=False,
        flash_cross_entropy=kind == "flash_attention_2",
    )
    found = parts(size_of(str(model)), training, Serving(0.0), 0)
    return sum(part.update for part in found if part.name != "CUDA, NCCL")


def measure_sharing(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The paper's shape: a first prompt of 3,000 tokens, 800 of memory a turn, replies of 300."""
    sizes = (8, 3, 75, 20, 10) if given.quick else (8, 3, 3000, 800, 300)
    asked = argparse.Namespace(
        device=given.device, rounds=1, repeats=1, max_tokens=16_384, quick=given.quick
    )
    return shared_prefix.compare("paper", shared_prefix.made_rows(*sizes), model, asked)


def measure_advantage(given: argparse.Namespace) -> dict[str, Any]:
    return dict(flow_grpo.compare(1024 if given.quick else 8192, 512, 3))


def run(given: argparse.Namespace) -> dict[str, Any]:
    """All parts; one that fails, or for which no time is left, says so and keeps no other back."""
    started = time.monotonic()
    found: dict[str, Any] = {"environment": environment(given.device)}
    with tempfile.TemporaryDirectory() as folder:
        model = BASE
        if not given.quick:
            from transformers import Qwen2Config, Qwen2ForCausalLM

            model = Path(folder)
            Qwen2ForCausalLM(Qwen2Config(**HALF_BILLION)).save_pretrained(model)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "advantage": lambda: measure_advantage(given),
            "shared_prefix": lambda: measure_sharing(model, given),
            "actor_update": lambda: measure_update(model, given),
        }
        for name, measure in measures.items():
            if time.monotonic() - started > LIMIT_S * 0.6:
                found[name] = {"left out": "no time left"}
                continue
            try:
                found[name] = measure()
            except Exception as error:  # the parts that were measured are worth having
                found[name] = {"error": f"{type(error).__name__}: {error}"[-2000:]}
            found["seconds"] = time.monotonic() - started
            logger.info("%s: %s", name, json.dumps(found[name]))
            if given.json:
                given.json.write_text(json.dumps(found, indent=2) + "\n")
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures, as they come")
    parser.add_argument("--quick", action="store_true", help="the quickstart's model, short rows")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    return parser.parse_args(arguments)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    found = run(parse())
    return int(any("error" in part for part in found.values() if isinstance(part, dict)))


if __name__ == "__main__":
    raise SystemExit(main())
