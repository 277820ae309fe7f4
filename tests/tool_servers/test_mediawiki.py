"""wikipedia_search, live: a wiki's API as the real one answers."""

from __future__ import annotations

import time

import pytest

from tests.tool_servers.services import Asked, Service, send_json
from tool_servers.common.calls import ServiceError, ToolError
from tool_servers.common.passages import Passage
from tool_servers.common.upstream import Upstream
from tool_servers.wikipedia_search.mediawiki import PAGES, MediaWiki

PAGES_OF_WIKI = {
    "Marie Curie": (
        "Marie Curie was a physicist.\nShe discovered polonium and radium in Paris.\n"
        + "Padding line.\n" * 200
    ),
    "Polonium": "Polonium is a chemical element.",
    "Empty": "",
}


def wiki(asked: Asked, handler) -> None:
    """api.php with formatversion=2."""
    assert (
        asked.params["action"] == "query"
        and asked.params["formatversion"] == "2"
        and asked.params["format"] == "json"
    )
    if asked.params.get("list") == "search":
        hits = [
            {"ns": 0, "title": title, "pageid": number}
            for number, title in enumerate(PAGES_OF_WIKI)
        ]
        send_json(
            handler,
            {"batchcomplete": True, "query": {"searchinfo": {"totalhits": 3}, "search": hits}},
        )
    else:
        title = asked.params["titles"]
        page = {"pageid": 1, "ns": 0, "title": title, "extract": PAGES_OF_WIKI[title]}
        send_json(handler, {"batchcomplete": True, "query": {"pages": [page]}})


async def search(service: Service, query: str, k: int = 2) -> list[Passage]:
    upstream = Upstream("mediawiki", 1_000_000, "agentflow-test/0 (tests)")
    try:
        return await MediaWiki(f"{service.url}/w/api.php", upstream).search(
            query, k, time.monotonic() + 5
        )
    finally:
        await upstream.close()


async def test_passages_of_the_pages_found_are_ranked_by_the_query(service: Service) -> None:
    service.reply = wiki
    service.asked.clear()
    first, second = await search(service, "who discovered polonium")
    assert first.title == "Marie Curie" and "radium" in first.text
    assert len(first.text) <= 1_200
    assert second in await search(service, "who discovered polonium", k=9)
    asked = service.asked[0]
    assert asked.params["srsearch"] == "who discovered polonium" and asked.params["srlimit"] == str(
        PAGES
    )
    assert asked.headers["user-agent"] == "agentflow-test/0 (tests)"


async def test_query_that_shares_no_word_still_shows_what_the_wiki_found(service: Service) -> None:
    service.reply = wiki
    assert [passage.title for passage in await search(service, "zzz", k=1)] == ["Marie Curie"]


async def test_nothing_found_is_no_failure(service: Service) -> None:
    service.reply = lambda _, handler: send_json(handler, {"query": {"search": []}})
    assert await search(service, "zzz") == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("cirrussearch-query-too-long", ToolError),
        ("ratelimited", ServiceError),
        ("internal_api_error_DBQueryError", ServiceError),
    ],
)
async def test_errors_of_the_api_are_the_query_s_or_its_own(
    service: Service, code: str, kind: type
) -> None:
    # the real API answers 200 for these
    error = {"errors": [{"code": code, "text": "in words", "module": "query+search"}], "docref": ""}
    service.reply = lambda _, handler: send_json(handler, error)
    with pytest.raises(kind, match=code):
        await search(service, "x")


async def test_query_longer_than_the_wiki_takes_is_the_model_s_to_correct(service: Service) -> None:
    with pytest.raises(ToolError, match="301 characters"):
        await search(service, "x" * 301)
