"""The fingerprint of a server: a hash of everything that shapes its answers, and of nothing else.

A cache of answers keyed by it outlives a restart on another port, and meets no answers of other
code, options or data.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ELSEWHERE = {
    "host",
    "port",
    "workers",
    "exit_with_parent",
    "timeout",
    "concurrency",
    "user_agent",
    "corpus",
    "api_key_env",
}
"""Options that decide where, when and how many, or whose content is what counts: no part of an
answer.
"""


def compute_fingerprint(
    server: str,
    given: argparse.Namespace,
    packages: Iterable[str] = (),
    data: Iterable[object] = (),
) -> str:
    """For the tool's ``_meta``. ``packages``: the libraries that make the answers; ``data``: what
    they are made from.
    """
    seen = hashlib.sha256()
    for folder in ("common", server):
        for file in sorted((PACKAGE / folder).rglob("*.py")):
            seen.update(file.read_bytes())
    asked = {name: value for name, value in vars(given).items() if name not in ELSEWHERE}
    versions = [importlib.metadata.version(name) for name in packages]
    for part in (sorted(asked.items()), sys.version, versions):
        seen.update(repr(part).encode())
    for part in data:
        seen.update(repr(part).encode())
    return seen.hexdigest()[:16]
