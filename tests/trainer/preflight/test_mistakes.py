"""The table of docs/mistakes.md is true: every mistake is named by its line, in its time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow_verl.config.overrides import check_override_keys
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.checks import SERVERS, check_run
from agentflow_verl.trainer.preflight.run_lock import NAME
from tests.engines.model_folders import write_model
from tests.trainer.preflight.runs import good_run, make_config, make_row, write_rows

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"\| (.+) \| ([\d.]+) \| (.+) \|")
SLACK_S = 5.0  # of a machine that does other things at the same time
POINTER = "version https://git-lfs.github.com/spec/v1\nsize 123456789\n"


def rows_of_the_table() -> list[tuple[str, float, str]]:
    text = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    return [(found[1], float(found[2]), found[3]) for found in ROW.finditer(text)]


def spoil_row(**changes: Any) -> Callable[[Path], None]:
    """The second row of the data, with other columns."""

    def spoil(folder: Path) -> None:
        whole = make_row(agent_name="agentflow", images=[])
        write_rows(folder / "rows.parquet", [whole, {**whole, **changes}, whole, whole])

    return spoil


def spoil_model(name: str, content: bytes | None) -> Callable[[Path], None]:
    """A file of the model with other content, or without it."""

    def spoil(folder: Path) -> None:
        (folder / "model" / name).unlink()
        if content is not None:
            (folder / "model" / name).write_bytes(content)

    return spoil


def cut_weights(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2])


def hold_the_folder(folder: Path) -> None:
    """As a run on another host does."""
    (folder / "run").mkdir()
    holder = {"pid": 1, "host": "elsewhere", "process_start": "0"}
    (folder / "run" / NAME).write_text(json.dumps(holder))


MISTAKES: dict[str, Callable[[Path], object]] = {
    "a model without weights": spoil_model("model.safetensors", None),
    "weights that are cut off": cut_weights,
    "weights that are a pointer of git-lfs": spoil_model("model.safetensors", POINTER.encode()),
    "a model without a tokenizer": spoil_model("tokenizer.json", None),
    "a model without a chat template": spoil_model("tokenizer_config.json", b"{}"),
    "an architecture that the engine does not know": (
        lambda folder: write_model(folder / "model", architectures=["BertModel"])
    ),
    "a mixture of experts with `platform=cpu`": (
        lambda folder: write_model(
            folder / "model", architectures=["Qwen3MoeForCausalLM"], num_experts=8
        )
    ),
    "a row without a user message": spoil_row(prompt=[]),
    "a row with an image": spoil_row(images=["a.png"]),
    "a row without a gold": spoil_row(reward_model={"style": "rule", "ground_truth": None}),
    "a row of another agent loop": spoil_row(agent_name="tool_agent"),
    "a row of an unknown data source": spoil_row(data_source="riddles"),
    "`extra_info` as text": (
        lambda folder: write_rows(folder / "rows.parquet", [make_row(extra_info="{}")] * 4)
    ),
    "a folder that another run writes to": hold_the_folder,
}


def ask_all(overrides: list[str], mistakes: list[str]) -> None:
    check_override_keys(mistakes)
    config = make_config(*overrides, *mistakes)
    check_run(config, without=(SERVERS,))


@pytest.mark.parametrize(("mistake", "seconds", "line"), rows_of_the_table())
def test_every_mistake_of_the_table_is_named_in_time(tmp_path, monkeypatch, mistake, seconds, line):
    import torch

    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    overrides = good_run(tmp_path)
    if mistake in MISTAKES:
        MISTAKES[mistake](tmp_path)
        mistakes = []
    else:
        mistakes = mistake.split("`")[1].split(" ")
    make_config()  # what is composed once is not the check's time
    began = time.monotonic()
    with pytest.raises(ConfigError) as raised:
        ask_all(overrides, mistakes)
    assert time.monotonic() - began < seconds + SLACK_S
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_table_lists_every_mistake_that_is_made_here():
    listed = {mistake for mistake, _, _ in rows_of_the_table()}
    assert set(MISTAKES) <= listed
    assert len(listed) >= 30
