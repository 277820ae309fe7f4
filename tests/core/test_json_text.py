"""A server's JSON, read by a faster parser that the standard library's overrules."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.json_text import loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_as_json_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    found = loads(text)
    assert found == json.loads(text)
    assert json.dumps(found) == json.dumps(json.loads(text)), "1, 1.0 and true are equal"


@pytest.mark.parametrize(
    "text",
    [
        r'"half a pair: \ud83d"',
        r'{"a": "\ud83d\ude00", "a": "the last counts"}',
        "[" * 300 + "]" * 300,
        "1e400",
        "-Infinity",
        "-0",
        "-0.0",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
    ],
)
def test_what_other_parsers_refuse_or_read_otherwise_is_read_as_json_reads_it(text):
    assert repr(loads(text)) == repr(json.loads(text))


def test_nan_is_read():
    assert math.isnan(loads("NaN"))


@pytest.mark.parametrize("text", ["", "{", "{} {}", "\ufeff{}", "{'a': 1}", '"\n"', "[1,]", "nul"])
def test_what_is_no_json_raises_as_json_does(text):
    with pytest.raises(json.JSONDecodeError):
        loads(text)
