"""Data files and configurations of runs that could start, for the tests of the preflight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


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
