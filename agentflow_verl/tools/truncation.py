"""Truncation of a tool's result to ``max_result_chars``, with a visible mark."""

from __future__ import annotations


def truncate(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters (limit >= 100). Where some were cut, a mark at the
    end says how many.
    """
    if len(text) <= limit:
        return text
    # Room for the longest count that the mark can show; the true one is known only after the cut.
    longest_mark = _mark(len(text))
    head = text[: limit - len(longest_mark)]
    return head + _mark(len(text) - len(head))


def _mark(count: int) -> str:
    return f"\n[… {count} characters cut]"
