"""google_search: each engine's API, as its own documentation shows requests and replies."""

from __future__ import annotations

import time

import pytest

from tests.tool_servers.services import Service, says
from tool_servers.common.calls import ServiceError
from tool_servers.common.upstream import Upstream
from tool_servers.google_search import server
from tool_servers.google_search.engines import ENGINES, Found, Hit, strip_markup
from tool_servers.google_search.server import Search, show

KEYS = ("key-one", "key-two")
GEMINI = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "Spain won "}, {"text": "Euro 2024."}]},
            "finishReason": "STOP",
            "groundingMetadata": {
                "webSearchQueries": ["UEFA Euro 2024 winner"],
                "searchEntryPoint": {"renderedContent": "<div></div>"},
                "groundingChunks": [
                    {"web": {"uri": "https://redirect.example/abc", "title": "uefa.com"}}
                ],
                "groundingSupports": [],
            },
        }
    ],
    "modelVersion": "gemini-2.5-flash",
}
GOOGLE = {
    "kind": "customsearch#search",
    "searchInformation": {"totalResults": "2"},
    "items": [
        {
            "kind": "customsearch#result",
            "title": "A",
            "link": "https://a.example/x",
            "snippet": "one\xa0two",
        },
        {"kind": "customsearch#result", "title": "B", "link": "https://b.example/"},
    ],
}
SERPER = {
    "searchParameters": {"q": "apple", "type": "search"},
    "answerBox": {"title": "Apple", "snippet": "A fruit."},
    "organic": [
        {"title": "Apple", "link": "https://a.example/", "snippet": "Malus.", "position": 1}
    ],
    "peopleAlsoAsk": [],
}
BRAVE = {
    "type": "search",
    "web": {
        "type": "search",
        "results": [
            {
                "title": "Rust &amp; Co",
                "url": "https://a.example/",
                "description": "A <strong>rust</strong> book",
            }
        ],
    },
}
TAVILY = {
    "query": "messi",
    "answer": None,
    "images": [],
    "results": [
        {
            "title": "Messi",
            "url": "https://a.example/",
            "content": "A footballer.",
            "score": 0.9,
            "raw_content": None,
        }
    ],
    "response_time": "1.67",
}
SEARXNG = {
    "query": "x",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://a.example/",
            "title": "X",
            "content": "text",
            "engine": "bing",
            "score": 1.0,
        }
    ],
    "answers": [{"answer": "42", "url": None}],
    "unresponsive_engines": [["google", "timeout"]],
}
ENGINE_CASES = {
    "gemini": (
        GEMINI,
        "/models/gemini-2.5-flash:generateContent",
        "x-goog-api-key",
        "Answer: Spain won Euro 2024.",
    ),
    "google": (GOOGLE, "/customsearch/v1", "x-goog-api-key", "[1] A\nhttps://a.example/x\none two"),
    "serper": (
        SERPER,
        "/search",
        "x-api-key",
        "Answer: A fruit.\n\n[1] Apple\nhttps://a.example/\nMalus.",
    ),
    "brave": (
        BRAVE,
        "/res/v1/web/search",
        "x-subscription-token",
        "[1] Rust & Co\nhttps://a.example/\nA rust book",
    ),
    "tavily": (TAVILY, "/search", "authorization", "[1] Messi\nhttps://a.example/\nA footballer."),
    "searxng": (SEARXNG, "/search", None, "Answer: 42\n\n[1] X\nhttps://a.example/\ntext"),
}


async def find(engine: str, service: Service, left_out: tuple[str, ...] = ()) -> Found:
    upstream = Upstream(engine, 1_000_000, secrets=KEYS)
    search = Search(ENGINES[engine], upstream, service.url, KEYS, 5, left_out=left_out)
    try:
        return await search.find("apple pie", time.monotonic() + 5)
    finally:
        await upstream.close()


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_engine_is_asked_and_read_as_its_documentation_says(
    service: Service, engine: str
) -> None:
    reply, path, key_header, shown = ENGINE_CASES[engine]
    service.reply = says(reply)
    text = show("apple pie", await find(engine, service), 500)
    assert text.startswith(shown)
    asked = service.asked[-1]
    assert asked.path == path
    assert "apple pie" in str(asked.params or asked.json)
    if key_header:
        assert KEYS[0] in asked.headers[key_header]
    assert KEYS[0] not in str((asked.path, asked.params, asked.json))


async def test_grounded_answer_names_its_sources(service: Service) -> None:
    service.reply = says(GEMINI)
    assert (await find("gemini", service)).hits == (
        Hit("uefa.com", "https://redirect.example/abc", ""),
    )


NOTHING = {
    "google": {"kind": "customsearch#search", "searchInformation": {"totalResults": "0"}},
    "serper": {"organic": []},
    "brave": {"type": "search", "query": {}},
    "tavily": {"results": []},
    "searxng": {"results": [], "answers": [], "unresponsive_engines": []},
    "gemini": {"candidates": [{"finishReason": "STOP"}]},
}


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_no_result_is_no_failure(service: Service, engine: str) -> None:
    service.reply = says(NOTHING[engine])
    assert show("zzz", await find(engine, service), 500).startswith("No result for 'zzz'")


@pytest.mark.parametrize(
    ("engine", "reply", "reason"),
    [
        ("searxng", {"results": [], "unresponsive_engines": [["google", "CAPTCHA"]]}, "CAPTCHA"),
        ("gemini", {"promptFeedback": {"blockReason": "OTHER"}}, "no candidate"),
        ("tavily", {"detail": "?"}, "another format"),
        ("google", {"items": [{"title": "no link"}]}, "another format"),
        ("brave", {"web": {"results": [{"url": "https://a", "title": ["x"]}]}}, "another format"),
    ],
)
async def test_engine_that_did_not_search_failed(
    service: Service, engine: str, reply: dict, reason: str
) -> None:
    service.reply = says(reply)
    with pytest.raises(ServiceError, match=reason):
        await find(engine, service)


async def test_left_out_sites_are_never_shown(service: Service) -> None:
    rows = [
        {"title": host, "link": f"https://{host}/page", "snippet": ""}
        for host in ("huggingface.co", "x.huggingface.co", "nothuggingface.co", "[x")
    ]
    service.reply = says({"organic": rows})
    found = await find("serper", service, ("huggingface.co",))
    assert [hit.title for hit in found.hits] == ["nothuggingface.co"]


def test_markup_and_long_snippets_do_not_reach_the_model() -> None:
    assert strip_markup(" a <b>bold</b>\n &lt;tag&gt; 1 < 2 ") == "a bold <tag> 1 < 2"
    text = show("q", Found((Hit("t", "https://a", "x" * 30),)), 10)
    assert text == f"[1] t\nhttps://a\n{'x' * 10} [... 20 characters left out]"


@pytest.mark.parametrize(
    ("arguments", "says_"),
    [
        ((), "the environment variable GEMINI_API_KEY holds no key"),
        (("--engine", "google"), "the environment variable GOOGLE_API_KEY holds no key"),
        (("--engine", "searxng"), "--engine searxng needs --base-url"),
        (("--engine", "bing"), "invalid choice: 'bing'"),
        (("--base-url", "ftp://x"), "is not a plain http or https URL"),
        (("--base-url", "https://user:word@x"), "is not a plain http or https URL"),
        (("--leave-out", "x.example"), "--leave-out cannot be kept with --engine gemini"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    arguments: tuple[str, ...],
    says_: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for engine in ENGINES.values():
        for key in engine.keys:
            monkeypatch.delenv(key, raising=False)
    with pytest.raises(SystemExit) as ended:
        server.main(arguments)
    assert ended.value.code == 2
    assert says_ in capsys.readouterr().err.splitlines()[-1]
