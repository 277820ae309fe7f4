"""A mistyped key of ``agentflow`` on the command line is answered with the nearest one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentflow_verl.config.overrides import check_override_keys
from agentflow_verl.core.errors import ConfigError


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("agentflow.max_turn=3", "agentflow.max_turn: unknown key; did you mean 'max_turns'?"),
        ("+agentflow.max_turn=3", "agentflow.max_turn: unknown key; did you mean 'max_turns'?"),
        ("++agentflow.max_turn=3", "agentflow.max_turn: unknown key; did you mean 'max_turns'?"),
        ("~agentflow.max_turn", "agentflow.max_turn: unknown key; did you mean 'max_turns'?"),
        (
            "agentflow.engines.planer=policy",
            "agentflow.engines.planer: unknown key; did you mean 'planner'?",
        ),
        (
            "+agentflow.tools.mine.url=http://a/mcp",
            "agentflow.tools.mine.url: unknown key; did you mean 'urls'?",
        ),
    ],
)
def test_the_nearest_key_is_named(argument, said):
    with pytest.raises(ConfigError) as raised:
        check_override_keys(["trainer.n_gpus_per_node=1", argument])
    assert str(raised.value) == said


@pytest.mark.parametrize(
    "argument",
    [
        "agentflow.max_turns=3",
        "agentflow.engines.planner=policy",
        "+agentflow.tools.mine.urls=[http://a/mcp]",
        "+agentflow.endpoints.judge={base_url: 'http://x/v1', model: m}",
        "agentflow=null",
        "~agentflow",
        "my_agentflow.max_turn=3",
        "data.max_turn=3",
        "--config-name",
        "agentflow",
    ],
)
def test_what_is_right_or_not_ours_passes(argument):
    check_override_keys([argument])


def test_a_training_command_says_it_before_hydra_does():
    """Pins that verl's plugins are loaded, and search paths asked for, before Hydra composes."""
    pytest.importorskip("verl")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "agentflow"),
            "agentflow.max_turn=3",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == (
        "agentflow: agentflow.max_turn: unknown key; did you mean 'max_turns'?"
    )
    assert "append" not in run.stderr
