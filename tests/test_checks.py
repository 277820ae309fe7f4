"""Types are checked strictly, and the API pages build without a warning.

Formatting, lint and types are a step of their own: scripts/check.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def test_types_are_checked_strictly(tmp_path):
    (tmp_path / "wrong.py").write_text("def f(a): return a")
    assert (
        run("mypy", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "wrong.py")).returncode
        == 1
    )


@pytest.mark.slow
def test_the_pages_of_the_api_build_without_a_warning(tmp_path):
    """The command of CONTRIBUTING.md."""
    [line] = [
        line
        for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("python -m pdoc")
    ]
    words = line.replace("'", "").replace("outputs/api", str(tmp_path)).split()[2:]
    made = run(*words)
    assert (made.returncode, made.stderr) == (0, ""), made.stderr[-2000:]
    assert (tmp_path / "agentflow_verl/flow/loop.html").is_file()
    assert (tmp_path / "tool_servers/python_coder/sandbox/runner.html").is_file()
