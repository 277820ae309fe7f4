"""The actor's update on an accelerator: flow_grpo asks for no more than verl's grpo on the same
rows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.benchmarks.actor_update import compare, parse

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
SMALL = [
    "--model",
    str(BASE),
    "--rows",
    "16",
    "--prompt",
    "64",
    "--response",
    "16",
    "--rounds",
    "2",
]


@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="torch sees no CUDA device: the update is measured where there is one",
)
def test_the_update_needs_no_more_memory_than_verls(tmp_path: Path) -> None:
    found = compare(parse([*SMALL, "--device", "cuda"]))
    assert found["flow_grpo"]["seconds"] > 0
    assert found["memory_ratio"] < 1.1


@pytest.mark.slow
def test_the_measurement_runs_on_a_cpu() -> None:
    found = compare(parse([*SMALL, "--device", "cpu"]))
    assert found["flow_grpo"]["seconds"] > 0 and found["grpo"]["seconds"] > 0
    assert found["flow_grpo"]["peak_gib"] > 0
