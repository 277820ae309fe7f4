"""Arguments reach a server only if they satisfy its schema; the complaint tells the planner what to
change.
"""

from __future__ import annotations

import json
import socket

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError, MalformedOutput
from agentflow_verl.tools.mcp.protocol import MAX_REQUEST_BYTES, encode
from agentflow_verl.tools.schema import ArgumentCheck

SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1},
        "count": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "language": {"enum": ["en", "de"]},
        "filters": {"type": "array", "items": {"$ref": "#/$defs/Filter"}},
    },
    "required": ["query"],
    "additionalProperties": False,
    "$defs": {
        "Filter": {
            "type": "object",
            "properties": {"year": {"type": "integer"}},
            "required": ["year"],
        }
    },
}
check = ArgumentCheck("search", SCHEMA)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
near_arguments = st.dictionaries(
    st.sampled_from([*SCHEMA["properties"], "other"]), json_values, max_size=4
)


@settings(deadline=None)
@given(json_values | near_arguments)
def test_exactly_what_satisfies_the_schema_passes_and_all_else_is_malformed(arguments):
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(arguments)
    if valid:
        check(arguments)
    else:
        with pytest.raises(MalformedOutput) as caught:
            check(arguments)
        assert str(caught.value).startswith("search: ")
        assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "argument 'query' is missing, expected string"),
        ({"query": 3}, "argument 'query' must be string, not 3"),
        ({"query": "x", "count": "many"}, "argument 'count' must be integer or null, not 'many'"),
        (
            {"query": "x", "language": "fr"},
            "argument 'language' must be one of 'en', 'de', not 'fr'",
        ),
        (
            {"query": "x", "limit": 3},
            "unknown argument 'limit'; known: query, count, language, filters",
        ),
        ({"query": ""}, "argument 'query' must satisfy minLength: 1, got ''"),
        (
            {"query": "x", "filters": [{"year": 1}, {}]},
            "argument 'filters[1].year' is missing, expected integer",
        ),
        (
            {"query": "x", "filters": [{"year": "y"}]},
            "argument 'filters[0].year' must be integer, not 'y'",
        ),
        ([], "arguments must be a JSON object, not []"),
        ("query", "arguments must be a JSON object, not 'query'"),
    ],
)
def test_the_complaint_names_the_argument_and_what_was_expected(arguments, complaint):
    with pytest.raises(MalformedOutput) as caught:
        check(arguments)
    assert str(caught.value) == f"search: {complaint}"


def test_a_long_value_is_not_repeated_in_full():
    with pytest.raises(MalformedOutput) as caught:
        check({"query": ["x" * 100_000]})
    assert len(str(caught.value)) < 200


def test_arguments_nested_without_end_are_malformed():
    value: list = []
    for _ in range(100_000):
        value = [value]
    recursive = {"type": "object", "additionalProperties": {"$ref": "#/$defs/L"}}
    recursive["$defs"] = {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}}
    with pytest.raises(MalformedOutput, match="nested too deeply"):
        ArgumentCheck("deep", recursive)({"value": value})


def test_an_invalid_schema_is_the_servers_fault():
    with pytest.raises(
        ConfigError, match="tool search: its server lists an invalid argument schema"
    ):
        ArgumentCheck("search", {"type": "text"})


def test_a_schema_cannot_make_this_process_fetch_a_url():
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/schema.json"
        remote = ArgumentCheck("search", {"properties": {"q": {"$ref": url}}})
        with pytest.raises(ConfigError, match=f"refers to {url}, outside itself"):
            remote({"q": 1})
        elsewhere.settimeout(0.1)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


UNSENDABLE = {
    "not a number": float("nan"),
    "infinity": float("inf"),
    "half a surrogate pair": "\ud800",
    "an integer of 5000 digits": 10**5000,
    "a megabyte": "x" * MAX_REQUEST_BYTES,
}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_travel_as_json_is_malformed(value):
    with pytest.raises(MalformedOutput):
        encode({"value": value})


@settings(deadline=None)
@given(json_values)
def test_what_is_encoded_arrives_unchanged(value):
    try:
        body = encode({"value": value})
    except MalformedOutput:
        return
    assert json.loads(body) == {"value": value}
