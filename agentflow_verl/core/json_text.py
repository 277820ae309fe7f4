"""JSON that a server sends, hundreds of times per second."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json


def loads(text: str) -> Any:
    """As ``json.loads``, at less than half of its cost."""
    try:
        return from_json(text)
    except (TypeError, ValueError):
        # Stricter than json, which takes half a surrogate pair ("\\ud83d"), and which decides here.
        return json.loads(text)
