"""A tool server, and questions of two kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.fakes import FACTS, SUMS, write_questions
from tests.tools.servers import echo_process


@pytest.fixture(scope="module")
def echo():
    with echo_process() as server:
        yield server


@pytest.fixture
def data(tmp_path) -> Path:
    return write_questions(tmp_path / "data", sums=SUMS, facts=FACTS)
