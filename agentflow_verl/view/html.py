"""The page: one HTML file that needs no network, with a content security policy under which only
its own two scripts run.

The scripts in page/ are ES modules. A page opened from disk may not import files, so the modules
are bundled here: each becomes a function that returns its exports, in the order of ``MODULES``, and
an import reads from the modules before it. The data are compressed and base64-encoded, so that no
text of a model can close a tag.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from agentflow_verl.core.unicode import well_formed
from agentflow_verl.view.index import Index

PAGE = Path(__file__).parent / "page"
LIBRARY = "vendor/uPlot.iife.min.js"
LICENCE = "vendor/uPlot.LICENSE"
STYLES = ("vendor/uPlot.min.css", "style.css")
MODULES = (
    "dom",
    "data",
    "charts",
    "parts",
    "run",
    "list",
    "group",
    "tokens",
    "timeline",
    "trajectory",
    "compare",
    "main",
)
IMPORT = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def write(index: Index, path: Path, title: str) -> None:
    """Write the whole page to ``path``, chunk by chunk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(page(title, index))


def page(title: str, index: Index | None) -> Iterator[str]:
    """The page in pieces. Without an ``index`` it asks the server that it came from (serve.py)."""
    connect = "'none'"
    if index is None:
        connect = "'self'"
    style, library, script = style_text(), library_text(), script_text()
    # By hash rather than 'unsafe-inline': markup that a model wrote cannot run, however it got in.
    policy = (
        f"default-src 'none'; script-src {digest(library)} {digest(script)}; style-src"
        f" {digest(style)}; img-src data:; connect-src {connect}; base-uri 'none'; form-action"
        " 'none'"
    )
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield (
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon"'
        ' href="data:,">\n'
    )
    yield f"<title>{html.escape(well_formed(title))}</title>\n"
    yield f"<style>{style}</style>\n</head>\n<body>\n"
    yield '<noscript>This page needs JavaScript.</noscript>\n<div id="app"></div>\n'
    if index is not None:
        yield block("index", index.packed())
    yield f"<script>{library}</script>\n<script>{script}</script>\n"
    if index is not None:
        for number, chunk in enumerate(index.chunks):
            yield block(f"chunk-{number}", chunk.packed())
    yield "</body>\n</html>\n"


def block(name: str, content: bytes) -> str:
    """Bytes that the page's script finds by name. The browser does not run a script of this
    type.
    """
    return (
        '<script type="application/gzip"'
        f' id="{name}">{base64.b64encode(content).decode()}</script>\n'
    )


@cache
def script_text() -> str:
    """All modules as one script."""
    modules = "\n".join(map(scope, MODULES))
    return f'(() => {{\n"use strict";\n{modules}}})();\n'


def scope(name: str) -> str:
    """A module as a constant that holds its exports."""
    source = text_of(f"{name}.js")
    body = EXPORT.sub("", IMPORT.sub(r"const \1 = \2Module;", source))
    return (
        f"const {name}Module = (() => {{\n{body}return {{ {', '.join(EXPORT.findall(source))}"
        " };\n})();\n"
    )


@cache
def library_text() -> str:
    """The charting library with its licence, which must be included in every copy."""
    return f"/*\n{text_of(LICENCE)}\n*/\n{text_of(LIBRARY)}"


@cache
def style_text() -> str:
    return "\n".join(map(text_of, STYLES))


def text_of(name: str) -> str:
    """A file of page/. Raises AssertionError for one that could close its own tag."""
    text = (PAGE / name).read_text(encoding="utf-8")
    assert "</script" not in text.lower() and "</style" not in text.lower(), name
    return text


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
