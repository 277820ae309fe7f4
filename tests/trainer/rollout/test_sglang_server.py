"""verl's SGLang server with what it leaves out, on the real SGLang: a cancelled request ends
in it, it sleeps once that has ended, and cached tokens are reported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.trainer.preflight.runs import make_config

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None,
    reason="SGLang is not installed: bash install.sh FOLDER cpu-sglang",
)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What tests/trainer/rollout/sglang_server.py saw, in the environment of a CPU run."""
    environment = make_config().ray_kwargs.ray_init.runtime_env.env_vars
    process = subprocess.run(
        [sys.executable, "-m", "tests.trainer.rollout.sglang_server"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
    assert lines, process.stderr[-4000:]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def test_a_cancelled_request_ends_in_the_server(seen):
    """Long before it would have ended by itself."""
    assert seen["cancelled_s"] < seen["whole_s"] / 4


def test_a_request_that_was_cancelled_while_generation_was_paused_ends_too(seen):
    assert seen["paused_s"] < seen["whole_s"] / 4


def test_the_server_sleeps_after_a_cancellation_and_answers_as_before(seen):
    assert seen["after_sleep"]


def test_cached_tokens_are_reported(seen):
    first, second = seen["cached"]
    assert first == 0 and 0 < second < seen["prompt"]


def test_equal_requests_get_equal_tokens(seen):
    assert seen["same"]
