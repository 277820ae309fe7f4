"""Text from outside: made valid Unicode, freed of secrets, cut with a visible mark."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BLANKED = "[key]"


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be sent as UTF-8.

    JSON can escape half of a surrogate pair (RFC 8259, 8.2); two halves that meet become one
    character.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def replace_surrogates_in(value: Any) -> Any:
    """``replace_surrogates`` for every text of a JSON value, keys included."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        return [replace_surrogates_in(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates_in(value[key]) for key in value}
    return value


def blank_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret by a mark. To be done before the text is cut: a cut can leave a part of
    a secret that no longer matches.
    """
    for secret in secrets:
        text = text.replace(secret, BLANKED)
    return text


def cut(text: str, most: int) -> str:
    """``text``, or its first ``most`` characters and how many were left out."""
    if len(text) <= most:
        return text
    return f"{text[:most].rstrip()} [... {len(text) - most} characters left out]"
