"""The live MediaWiki API: a search, then the text of the pages found, then their passages nearest
the query.

Two kinds of request (https://www.mediawiki.org/wiki/API:Search and /wiki/Extension:TextExtracts,
which gives whole pages one at a time). The etiquette (https://www.mediawiki.org/wiki/API:Etiquette)
asks for requests in series and a user agent that names a contact.
"""

from __future__ import annotations

from typing import Any

from tool_servers.common.calls import ServiceError, ToolError
from tool_servers.common.passages import Passage, nearest, split
from tool_servers.common.upstream import Rejected, Request, Upstream

PAGES = 3
PASSAGE_CHARS = 1_200
LONGEST_SEARCH = 300
"""Characters; CirrusSearch refuses longer ones."""
_COMMON = {"action": "query", "format": "json", "formatversion": "2", "errorformat": "plaintext"}


class MediaWiki:
    """A wiki by the address of its ``api.php``."""

    def __init__(self, url: str, upstream: Upstream) -> None:
        self._url = url
        self._upstream = upstream

    async def search(self, query: str, k: int, end: float) -> list[Passage]:
        """At most ``k`` passages, the nearest first.

        Raises ToolError for a search that the wiki refuses, ServiceError where it fails.
        """
        if len(query) > LONGEST_SEARCH:
            raise ToolError(
                f"The query is {len(query)} characters long, the most is {LONGEST_SEARCH}. Name"
                " only what to look for."
            )
        search = {"list": "search", "srsearch": query, "srlimit": str(PAGES), "srprop": ""}
        found = await self._query(search, end)
        passages: list[Passage] = []
        for hit in found["search"]:
            page = {
                "prop": "extracts",
                "explaintext": "1",
                "exsectionformat": "plain",
                "titles": hit["title"],
            }
            for each in (await self._query(page, end))["pages"]:
                passages += split(each["title"], each.get("extract") or "", PASSAGE_CHARS)
        return nearest(passages, query, k)

    async def _query(self, params: dict[str, str], end: float) -> dict[str, Any]:
        try:
            reply = await self._upstream.ask(Request(self._url, {**_COMMON, **params}), end)
        except Rejected as refused:
            raise ServiceError(f"{self._upstream.name} refused the request: {refused}") from None
        try:
            if errors := reply.get("errors"):
                self._raise_error(errors[0])
            return _checked_query(reply["query"])
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            name = self._upstream.name
            raise ServiceError(f"{name} answered in another format: {error!r:.200}") from None

    def _raise_error(self, error: dict[str, Any]) -> None:
        said = f"{error['code']}: {str(error.get('text', ''))[:200]}"
        if str(error["code"]).startswith(
            ("cirrussearch-query-too-long", "nosrsearch", "missingparam")
        ):
            raise ToolError(f"The search was refused: {said}")
        raise ServiceError(f"{self._upstream.name} failed: {said}")


def _checked_query(query: dict[str, Any]) -> dict[str, Any]:
    """The query part of a reply. Raises KeyError or TypeError where a title or text is none."""
    for row in (*query.get("search", ()), *query.get("pages", ())):
        if not isinstance(row["title"], str) or not isinstance(row.get("extract", ""), str):
            raise TypeError("a title or text that is no string")
    return query
