"""Right and wrong answers in the many ways in which models and data sets write them.

``variants.jsonl`` has a response a line with the score that it deserves; null: the row is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import compute_score

FILE = Path(__file__).parent / "variants.jsonl"
VARIANTS: list[dict[str, Any]] = [
    json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()
]


def scored(variant: dict[str, Any]) -> dict[str, Any]:
    return compute_score(
        variant["data_source"],
        variant["text"],
        variant["ground_truth"],
        variant["extra_info"],
    )


@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_a_response_gets_the_score_it_deserves(number: int) -> None:
    variant = VARIANTS[number]
    if variant["score"] is None:
        with pytest.raises(ConfigError) as refusal:
            scored(variant)
        assert "\n" not in str(refusal.value)
        return
    result = scored(variant)
    assert result["score"] == variant["score"], (variant, result["pred"], result["reason"])
