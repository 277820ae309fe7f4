"""Tool configurations are checked when they are made; results are cut visibly."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import decode_header_value
from pydantic import ValidationError

from agentflow_verl.config.tool import MIN_RESULT_CHARS, ToolConfig
from agentflow_verl.tools.mcp.content import result_text, stated_server, to_spec
from agentflow_verl.tools.mcp.protocol import Peer, header_arguments, header_value
from agentflow_verl.tools.truncation import truncate
from agentflow_verl.tools.types import ToolSpec


@settings(deadline=None)
@given(st.text(max_size=2000), st.integers(MIN_RESULT_CHARS, 1500))
def test_a_cut_result_fits_its_limit_and_says_how_much_is_missing(text, limit):
    shown = truncate(text, limit)
    assert len(shown) <= limit
    if len(text) <= limit:
        assert shown == text
    else:
        head, _, mark = shown.rpartition("\n[… ")
        assert text.startswith(head)
        assert mark == f"{len(text) - len(head)} characters cut]"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"urls": ("ftp://host/mcp",)},
        {"urls": ("http://",)},
        {"urls": ("http://host:0/mcp",)},
        {"urls": ("http://host:99999/mcp",)},
        {"urls": "http://host/mcp"},
        {"urls": ("http://host/mcp", "http://host/mcp")},
        {"urls": ("http://host/mcp",), "command": ("server",)},
        {"urls": ("http://host/mcp",), "args": ("--index",)},
        {"urls": ("http://host/mcp",), "env": ("KEY",)},
        {"command": ()},
        {"args": (1,)},
        {"env": ("KEY=value",)},
        {"timeout_s": 0},
        {"timeout_s": math.inf},
        {"timeout_s": math.nan},
        {"timeout_s": "30"},
        {"timeout_s": True},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"max_result_chars": MIN_RESULT_CHARS - 1},
        {"token_env": "TOKEN"},
        {"token_env": "", "urls": ("http://host/mcp",)},
        {"token_env": "Bearer abc", "urls": ("http://host/mcp",)},
        {"headers": {"X-Key": "abc"}},
        {"headers": {"X Key": "abc"}, "urls": ("http://host/mcp",)},
        {"headers": {"Mcp-Session-Id": "abc"}, "urls": ("http://host/mcp",)},
        {"headers": {"X-Key": "a\r\nb"}, "urls": ("http://host/mcp",)},
        {"headers": {"X-Key": ""}, "urls": ("http://host/mcp",)},
        {"calls_per_s": 0},
        {"calls_per_s": math.nan},
        {"calls_per_s": "10"},
        {"cache_dir": ""},
        {"cache_dir": 3},
        {"cacheable": "yes", "cache_dir": "cache"},
        {"cacheable": True},
    ],
)
def test_a_wrong_value_is_refused_and_named(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ToolConfig(**{"name": "search", **wrong})


def test_a_server_without_urls_is_started_from_the_tool_servers_by_name():
    config = ToolConfig(name="python_coder", args=("--workers", "2"))
    assert config.embedded
    assert config.argv(0) == [
        *(sys.executable, "-m", "tool_servers.python_coder"),
        *("--port", "0", "--exit-with-parent", "--workers", "2"),
    ]


def test_notes_and_purity_come_from_the_server():
    listed = {
        "name": "t",
        "inputSchema": {},
        "_meta": {"agentflow/notes": "careful", "agentflow/cacheable": True},
    }
    assert to_spec(listed).notes == "careful"
    assert to_spec(listed).cacheable
    assert not to_spec({"name": "t", "inputSchema": {}}).cacheable
    assert not to_spec(
        {"name": "t", "inputSchema": {}, "_meta": {"agentflow/cacheable": "yes"}}
    ).cacheable


def test_what_is_not_text_in_a_result_is_named_but_not_passed_on():
    content = [
        {"type": "text", "text": "seen"},
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}},
        {"type": "resource_link", "uri": "http://x/y"},
    ]
    assert (
        result_text({"content": content})
        == "seen\n[image image/png left out]\ninside\n[link http://x/y]"
    )


def test_a_result_with_only_structured_content_is_shown_as_json():
    assert result_text({"content": [], "structuredContent": {"sum": 3}}) == '{"sum": 3}'


PICTURE = {"type": "image", "data": "", "mimeType": "image/png"}


@pytest.mark.parametrize(
    ("text", "data", "added"),
    [
        ("4711", {"sum": 4711}, False),
        ("the sum is 4711", {"sum": 4711}, False),
        ('{"name": "Z\\u00fcrich"}', {"name": "Zürich"}, False),
        ("true and 2.5", {"a": [True, {"b": 2.5}]}, False),
        ("two rows", {"rows": [{"id": 4711}, {"id": 4712}]}, True),
        ("4711", {"sum": 4711, "unit": "kg"}, True),
        ("", {"sum": 4711}, True),
        ("  ", {}, True),
    ],
)
def test_structured_content_follows_a_text_that_does_not_say_all_of_it(text, data, added):
    blocks = [{"type": "text", "text": text}]
    shown = result_text({"content": blocks, "structuredContent": data})
    assert shown.startswith(text)
    assert (json.dumps(data, ensure_ascii=False) in shown.removeprefix(text)) is added


def test_structured_content_stands_beside_a_picture():
    shown = result_text({"content": [PICTURE], "structuredContent": {"sum": 4711}})
    assert shown == '[image image/png left out]\n{"sum": 4711}'


@pytest.mark.parametrize("text", ["\ud83d", "a \ude00 b", "\ud83d\ude00"])
def test_half_a_surrogate_pair_comes_out_as_text(text):
    for result in ({"content": [{"type": "text", "text": text}]}, {"structuredContent": [text]}):
        result_text(result).encode()


def test_annotated_arguments_are_repeated_as_headers():
    region = {"type": "string", "x-mcp-header": "Region"}
    nested = {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}}
    schema = {"properties": {"region": region, "nested": nested, "other": {"type": "string"}}}
    arguments = {"region": "eu", "nested": {"on": True}, "other": "x"}
    assert list(header_arguments(schema, arguments)) == [("Region", "eu"), ("On", "true")]
    assert list(header_arguments(schema, {"other": "x"})) == []


@pytest.mark.parametrize(
    ("hints", "repeatable"),
    [
        ({}, True),
        ({"readOnlyHint": True}, True),
        ({"readOnlyHint": False}, False),
        ({"readOnlyHint": False, "idempotentHint": False}, False),
        ({"readOnlyHint": False, "idempotentHint": True}, True),
        ({"destructiveHint": True}, True),
    ],
)
def test_a_tool_is_repeatable_unless_its_server_says_that_a_second_call_changes_something_again(
    hints, repeatable
):
    assert to_spec({"name": "t", "inputSchema": {}, "annotations": hints}).repeatable is repeatable


@pytest.mark.parametrize(
    "answer",
    [{"_meta": 3}, {"_meta": {"io.modelcontextprotocol/serverInfo": 3}}, {"serverInfo": []}, {}],
)
def test_a_server_that_does_not_say_who_it_is_has_no_name(answer):
    assert stated_server(answer) == ""


@settings(deadline=None)
@given(st.text())
def test_any_argument_fits_into_a_header_and_comes_back(value):
    try:
        header = header_value(value)
    except UnicodeEncodeError:  # half a surrogate pair: refused before, by the encoding of the body
        return
    assert header.isascii() and "\n" not in header and "\r" not in header
    assert decode_header_value(header) == value


def test_a_header_name_that_http_does_not_allow_is_left_out():
    schema = {"properties": {"q": {"x-mcp-header": "a\r\nEvil: 1"}}}
    headers, _ = Peer("2026-07-28").request(
        1, "tools/call", {"name": "t", "arguments": {"q": "x"}}, schema
    )
    assert sorted(headers) == ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"]


def test_the_tools_package_imports_no_trainer():
    lines = [
        "import pkgutil, sys, agentflow_verl.tools as tools",
        "found = pkgutil.walk_packages(tools.__path__, 'agentflow_verl.tools.')",
        "names = [module.name for module in found]",
        "assert 'agentflow_verl.tools.mcp.client' in names",
        "[__import__(name) for name in names]",
        "assert not {'verl', 'ray', 'vllm', 'torch', 'mcp'} & set(sys.modules)",
    ]
    subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], check=True, env=dict(os.environ), timeout=60
    )


def test_prompts_show_a_schema_without_titles():
    """An argument called title stays, and so does a title that is a value."""
    inner = {"type": "object", "title": "Page", "properties": {"title": {"type": "string"}}}
    parameters = {
        "title": "searchArguments",
        "properties": {
            "title": {"title": "Title", "type": "string", "default": {"title": "none"}},
            "page": {"anyOf": [inner, {"type": "null", "title": "Nothing"}]},
        },
    }
    shown = json.loads(ToolSpec("search", "Finds.", parameters).schema_text)
    assert shown == {
        "properties": {
            "title": {"type": "string", "default": {"title": "none"}},
            "page": {
                "anyOf": [
                    {"type": "object", "properties": {"title": {"type": "string"}}},
                    {"type": "null"},
                ]
            },
        },
    }
