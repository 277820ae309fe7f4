"""Data files and configurations of runs that could start, for the tests of the preflight."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import verl  # noqa: F401 - registers the search path
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf, open_dict

from tests.engines.model_folders import write_model


def make_row(**changes: Any) -> dict[str, Any]:
    """A row in verl's usual form; ``changes`` replace its columns."""
    row = {
        "data_source": "gsm8k",
        "prompt": [{"role": "user", "content": "What is 1+1?"}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0},
    }
    return {**row, **changes}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as a file of the kind that its ending names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join([json.dumps(row) + "\n" for row in rows]))
    return path


@cache
def _composed() -> DictConfig:
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("agentflow", ["platform=cpu"])


def make_config(*overrides: str) -> DictConfig:
    """The configuration of a run on a CPU with ``key=value`` set and ``~key`` removed: composed
    once, since that takes seconds.
    """
    config = copy.deepcopy(_composed())
    for override in overrides:
        key, _, value = override.partition("=")
        if key.startswith("~"):
            parent, _, name = key[1:].rpartition(".")
            with open_dict(config):
                del OmegaConf.select(config, parent)[name]
        else:
            OmegaConf.update(config, key.lstrip("+"), yaml.safe_load(value), force_add=True)
    return config


def good_run(folder: Path) -> list[str]:
    """Overrides of a run that could start here, endpoints and tool servers aside."""
    rows = write_rows(folder / "rows.parquet", [make_row()] * 4)
    return [
        f"actor_rollout_ref.model.path={write_model(folder / 'model')}",
        f"data.train_files={rows}",
        f"data.val_files={rows}",
        "data.train_batch_size=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        f"trainer.default_local_dir={folder}/run",
    ]
