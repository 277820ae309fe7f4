"""What whole runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.runs import write_questions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_questions(folder)
    return folder
