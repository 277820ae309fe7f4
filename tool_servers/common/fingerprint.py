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
IRRELEVANT_OPTIONS = {
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
"""Options that shape no answer: they say where, when and how many, or name a file or variable whose
content counts instead.
"""


def compute_fingerprint(
    server: str,
    given: argparse.Namespace,
    packages: Iterable[str] = (),
    data: Iterable[object] = (),
) -> str:
    """The fingerprint for the tool's ``_meta``: 16 hexadecimal digits.

    ``given``: the command line. ``packages``: the libraries that make the answers. ``data``: what
    the answers are made from.
    """
    digest = hashlib.sha256()
    for folder in ("common", server):
        for file in sorted((PACKAGE / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    options = []
    for name, value in sorted(vars(given).items()):
        if name not in IRRELEVANT_OPTIONS:
            options.append((name, value))
    versions = list(map(importlib.metadata.version, packages))
    for part in (options, sys.version, versions, *data):
        digest.update(repr(part).encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]
