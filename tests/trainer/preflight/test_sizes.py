"""The estimate ends no run but by a line that says what does not fit."""

from __future__ import annotations

import json

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight import checks, sizes
from agentflow_verl.trainer.preflight.static import load_settings
from tests.trainer.preflight.runs import make_config


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # no cluster of this machine's
    return make_config()


def test_a_plan_that_fails_is_left_out(config, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("unsupported operand")

    monkeypatch.setattr(sizes, "known_steps", fail)
    assert sizes.plan_here(config, load_settings(config)) is None


def test_a_model_of_an_unusual_shape_has_no_estimate(config, tmp_path) -> None:
    unusual = {"model_type": "llama", "num_attention_heads": [4, 8]}
    (tmp_path / "config.json").write_text(json.dumps(unusual))
    config.actor_rollout_ref.model.path = str(tmp_path)
    sizes.check_sizes(config, load_settings(config))
    assert sizes.size_notes(config, load_settings(config)) == []


def test_a_note_that_fails_costs_no_run(config, monkeypatch) -> None:
    def fail(*_: object) -> list[str]:
        raise ConfigError("gone")

    monkeypatch.setattr(checks, "NOTES", (fail, lambda *_: ["said"]))
    assert checks.notes(config, load_settings(config)) == ["said"]
