"""``agentflow eval --model`` where SGLang is installed and vLLM is not: the real server answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.evaluation import session, settings
from tests.evaluation.fakes import SUMS, write_questions
from tests.evaluation.runs import report
from tests.tools.servers import echo_process

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
SMALL = "--dtype float32 --context-length 2048 --max-total-tokens 8192"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang") is None,
        reason="SGLang is not installed: bash install.sh FOLDER cpu-sglang",
    ),
]


def test_a_folder_is_served_with_sglang_where_that_alone_is_installed(
    tmp_path, monkeypatch, capsys
):
    """The frozen modules' replies are held to a schema, which needs more of the engine."""
    for module in (session, settings):
        monkeypatch.setattr(module, "serving_engine", lambda: "sglang")
    data = write_questions(tmp_path / "data", sums=SUMS[:2])
    with echo_process() as echo:
        given = ["eval", "--benchmarks", "sums", "--data", str(data), "--model", str(BASE)]
        limits = ["--max-tokens", "32", "--memory-tokens", "300", "--server-args", SMALL]
        tool = ["--tool", f"echo={echo.url}", "--out", str(tmp_path / "out")]
        assert main([*given, *limits, *tool]) == 0, capsys.readouterr().err
    found = report(tmp_path / "out")
    assert found["header"]["versions"]["sglang"]
    assert found["header"]["engines"]["policy"]["served_by"] == "SGLang, started here"
    assert (tmp_path / "out" / "servers" / "sglang_model.log").is_file()
    outcomes = found["overall"]["outcomes"]
    assert outcomes.get("infra_error", 0) == 0
