"""The edition: what shapes an answer changes it, where and when it is given does not."""

from __future__ import annotations

from argparse import Namespace

import pytest

from tool_servers.common import edition
from tool_servers.common.passages import Passage

GIVEN = {"port": 1, "host": "127.0.0.1", "timeout": 5.0, "corpus": "a.jsonl", "k": 3}
DATA = [Passage("Paris", "the capital")]


def of(server: str = "wikipedia_search", data: list[Passage] = DATA, **changed: object) -> str:
    return edition.of(server, Namespace(**{**GIVEN, **changed}), ("bm25s",), data)


@pytest.mark.parametrize(
    "elsewhere", [{"port": 2}, {"host": "::1"}, {"timeout": 9.0}, {"corpus": "moved.jsonl"}]
)
def test_a_restart_elsewhere_is_the_same_edition(elsewhere: dict) -> None:
    assert of(**elsewhere) == of()


@pytest.mark.parametrize(
    "other", [{"k": 4}, {"data": [Passage("Paris", "a city")]}, {"server": "google_search"}]
)
def test_other_options_data_and_code_are_another_edition(other: dict) -> None:
    assert of(**other) != of()


def test_other_versions_of_what_it_is_made_with_are_another_edition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = of()
    monkeypatch.setattr(edition.importlib.metadata, "version", lambda name: "99")
    assert of() != before
