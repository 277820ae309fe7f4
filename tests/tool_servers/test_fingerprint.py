"""The fingerprint changes with what shapes an answer, and not with where or when it is served."""

from __future__ import annotations

from argparse import Namespace

import pytest

from tool_servers.common import fingerprint
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.passages import Passage

GIVEN = {"port": 1, "host": "127.0.0.1", "timeout": 5.0, "corpus": "a.jsonl", "k": 3}
DATA = [Passage("Paris", "the capital")]


def fingerprint_with(
    server: str = "wikipedia_search", data: list[Passage] = DATA, **changed: object
) -> str:
    return compute_fingerprint(server, Namespace(**{**GIVEN, **changed}), ("bm25s",), data)


@pytest.mark.parametrize(
    "elsewhere", [{"port": 2}, {"host": "::1"}, {"timeout": 9.0}, {"corpus": "moved.jsonl"}]
)
def test_a_restart_elsewhere_is_the_same_fingerprint(elsewhere: dict) -> None:
    assert fingerprint_with(**elsewhere) == fingerprint_with()


@pytest.mark.parametrize(
    "other", [{"k": 4}, {"data": [Passage("Paris", "a city")]}, {"server": "google_search"}]
)
def test_other_options_data_and_code_are_another_fingerprint(other: dict) -> None:
    assert fingerprint_with(**other) != fingerprint_with()


def test_other_versions_of_what_it_is_made_with_are_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fingerprint_with()
    monkeypatch.setattr(fingerprint.importlib.metadata, "version", lambda name: "99")
    assert fingerprint_with() != before
