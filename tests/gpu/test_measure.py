"""The script for a machine with a GPU runs where it is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.device import attention
from tests.gpu import measure

PARTS = ("advantage", "shared_prefix", "actor_update")


def run(tmp_path: Path, device: str) -> dict:
    file = tmp_path / "gpu.json"
    found = measure.run(measure.parse(["--device", device, "--quick", "--json", str(file)]))
    assert json.loads(file.read_text()) == found
    for part in PARTS:
        assert "error" not in found[part], found[part]
    assert found["shared_prefix"]["speedup"] > 0
    assert found["actor_update"]["estimate_gib"] > 0
    return found


@pytest.mark.slow
def test_the_script_runs_without_a_gpu(tmp_path: Path) -> None:
    found = run(tmp_path, "cpu")
    assert found["environment"]["attention"] == "sdpa"
    update = found["actor_update"]
    assert update["grpo"]["tensors_gib"] == pytest.approx(update["estimate_gib"], rel=0.3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_script_runs_on_a_gpu(tmp_path: Path) -> None:
    assert run(tmp_path, "cuda")["environment"]["gpu"]


def test_a_part_that_fails_keeps_no_other_back(tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> dict:
        raise RuntimeError("no kernel for this device")

    for name in ("measure_update", "measure_sharing"):
        monkeypatch.setattr(measure, name, fail)
    found = measure.run(measure.parse(["--device", "cpu", "--quick"]))
    assert "no kernel" in found["actor_update"]["error"] and found["advantage"]["rows"]


def test_the_attention_is_flash_attns_where_that_is(tmp_path, monkeypatch) -> None:
    (tmp_path / "flash_attn-2.8.3.dist-info").mkdir()
    (tmp_path / "flash_attn-2.8.3.dist-info/METADATA").write_text("Name: flash-attn\n")
    assert attention("cpu") == ("sdpa", False)
    monkeypatch.syspath_prepend(tmp_path)
    assert attention("cuda") == ("flash_attention_2", True)
    assert attention("cpu") == ("sdpa", False)
