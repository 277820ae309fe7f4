"""A local corpus: one JSON object per line, with the strings ``title`` and ``text``."""

from __future__ import annotations

import json
from pathlib import Path

from tool_servers.common.options import WrongInput
from tool_servers.common.passages import Passage
from tool_servers.common.text import replace_surrogates


class CorpusError(WrongInput):
    """The corpus cannot be used. The message says which file, which line and why."""


def load_corpus(path: Path) -> list[Passage]:
    """Every passage of the file, in its order. Blank lines are skipped.

    Raises CorpusError for a file that cannot be read, a line that is not a passage, or a file
    without any.
    """
    passages = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    passages.append(_passage(line, f"corpus {path}, line {number}"))
    except OSError as error:
        raise CorpusError(f"corpus {path} cannot be read: {error.strerror}") from error
    if not passages:
        raise CorpusError(f"corpus {path} holds no passage")
    return passages


def _passage(line: bytes, where: str) -> Passage:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise CorpusError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise CorpusError(
            f'{where}: expected an object with "title" and "text", found {type(row).__name__}'
        )
    for field in ("title", "text"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise CorpusError(f'{where}: "{field}" must be a string that is not empty')
    title, text = map(replace_surrogates, (row["title"], row["text"]))
    return Passage(title.strip(), text.strip())
