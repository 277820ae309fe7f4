"""The search engines: the request to each and the meaning of its reply. Pure functions over JSON.

gemini     Google search through Gemini's grounding; ai.google.dev/gemini-api/docs/google-search
google     Google's Custom Search JSON API; closed to new customers, ends on 2027-01-01;
           developers.google.com/custom-search/v1
serper     Google's results through Serper; serper.dev
brave      Brave's own index; api-dashboard.search.brave.com
tavily     search made for agents; docs.tavily.com
searxng    an own SearXNG with the format json switched on; docs.searxng.org/dev/search_api.html
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tool_servers.common.upstream import Request

_TAG = re.compile(r"<[^>]{0,200}>")


class Incomplete(Exception):
    """The engine answered, but says itself that the search did not work."""


@dataclass(frozen=True)
class Hit:
    """A page that was found, and the engine's excerpt of it."""

    title: str
    url: str
    text: str


@dataclass(frozen=True)
class Found:
    """What a search found. ``answer``: the engine's own answer to the query, if it gives one."""

    hits: tuple[Hit, ...]
    answer: str = ""


@dataclass(frozen=True)
class Query:
    """One search: ``keys`` are the engine's, in its order; ``model`` is for those that have one."""

    text: str
    k: int
    base_url: str
    keys: tuple[str, ...]
    model: str = ""


@dataclass(frozen=True)
class Engine:
    """How an engine is asked.

    ``keys``: the environment variables that hold its keys. ``most``: results it gives at once.
    """

    base_url: str | None
    keys: tuple[str, ...]
    most: int
    build_request: Callable[[Query], Request]
    parse_reply: Callable[[Any], Found]


def _gemini_request(query: Query) -> Request:
    body = {
        "contents": [{"role": "user", "parts": [{"text": query.text}]}],
        "tools": [{"google_search": {}}],
    }
    url = f"{query.base_url}/models/{query.model}:generateContent"
    return Request(url, headers={"x-goog-api-key": query.keys[0]}, json=body)


def _gemini_reply(reply: Any) -> Found:
    if "candidates" not in reply:
        raise Incomplete(f"no candidate: {str(reply.get('promptFeedback'))[:100]}")
    candidate = reply["candidates"][0]
    parts = candidate.get("content", {}).get("parts", ())
    chunks = candidate.get("groundingMetadata", {}).get("groundingChunks", ())
    hits = []
    for chunk in chunks:
        if "web" in chunk:
            site = chunk["web"]
            hits.append(Hit(site.get("title") or site["uri"], site["uri"], ""))
    return Found(tuple(hits), "".join(part.get("text", "") for part in parts))


def _google_request(query: Query) -> Request:
    key, engine = query.keys
    params = {"cx": engine, "q": query.text, "num": str(query.k)}
    return Request(f"{query.base_url}/customsearch/v1", params, {"x-goog-api-key": key})


def _google_reply(reply: Any) -> Found:
    return Found(_hits(reply.get("items", ()), "title", "link", "snippet"))


def _serper_request(query: Query) -> Request:
    return Request(
        f"{query.base_url}/search",
        headers={"X-API-KEY": query.keys[0]},
        json={"q": query.text, "num": query.k},
    )


def _serper_reply(reply: Any) -> Found:
    box, graph = reply.get("answerBox", {}), reply.get("knowledgeGraph", {})
    answer = box.get("answer") or box.get("snippet") or graph.get("description") or ""
    return Found(_hits(reply.get("organic", ()), "title", "link", "snippet"), answer)


def _brave_request(query: Query) -> Request:
    params = {"q": query.text, "count": str(query.k), "text_decorations": "false"}
    return Request(
        f"{query.base_url}/res/v1/web/search", params, {"X-Subscription-Token": query.keys[0]}
    )


def _brave_reply(reply: Any) -> Found:
    rows = reply.get("web", {}).get("results", ())
    return Found(_hits(rows, "title", "url", "description"))


def _tavily_request(query: Query) -> Request:
    headers = {"Authorization": f"Bearer {query.keys[0]}"}
    return Request(
        f"{query.base_url}/search",
        headers=headers,
        json={"query": query.text, "max_results": query.k},
    )


def _tavily_reply(reply: Any) -> Found:
    return Found(_hits(reply["results"], "title", "url", "content"), reply.get("answer") or "")


def _searxng_request(query: Query) -> Request:
    return Request(f"{query.base_url}/search", {"q": query.text, "format": "json"})


def _searxng_reply(reply: Any) -> Found:
    hits = _hits(reply["results"], "title", "url", "content")
    if not hits and reply.get("unresponsive_engines"):
        raise Incomplete(
            f"none of its engines responded: {str(reply['unresponsive_engines'])[:100]}"
        )
    answers = []
    for answer in reply.get("answers", ()):
        answers.append(answer if isinstance(answer, str) else answer["answer"])
    return Found(hits, " ".join(answers))


def _hits(rows: Sequence[Mapping[str, Any]], title: str, url: str, text: str) -> tuple[Hit, ...]:
    """The hits of a reply's rows, whose fields have these names. Raises KeyError."""
    hits = []
    for row in rows:
        shown = strip_markup(row.get(title) or row[url])
        hits.append(Hit(shown, row[url], strip_markup(row.get(text) or "")))
    return tuple(hits)


def strip_markup(text: str) -> str:
    """Text without the tags, entities and line breaks that engines put into titles and snippets."""
    return " ".join(html.unescape(_TAG.sub("", text)).split())


ENGINES = {
    "gemini": Engine(
        "https://generativelanguage.googleapis.com/v1beta",
        ("GEMINI_API_KEY",),
        100,
        _gemini_request,
        _gemini_reply,
    ),
    "google": Engine(
        "https://www.googleapis.com",
        ("GOOGLE_API_KEY", "GOOGLE_CSE_ID"),
        10,
        _google_request,
        _google_reply,
    ),
    "serper": Engine(
        "https://google.serper.dev", ("SERPER_API_KEY",), 100, _serper_request, _serper_reply
    ),
    "brave": Engine(
        "https://api.search.brave.com",
        ("BRAVE_API_KEY",),
        20,
        _brave_request,
        _brave_reply,
    ),
    "tavily": Engine(
        "https://api.tavily.com", ("TAVILY_API_KEY",), 20, _tavily_request, _tavily_reply
    ),
    "searxng": Engine(None, (), 100, _searxng_request, _searxng_reply),
}
