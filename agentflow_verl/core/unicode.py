"""Text from outside that everything inside can hold."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """``text`` with surrogate pairs joined and lone halves replaced by U+FFFD.

    JSON can spell half a pair (``"\\ud83d"``); UTF-8, and with it tokenizers and the trajectory
    log, cannot hold one.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
