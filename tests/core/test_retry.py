"""When a failed request is sent again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.retry import LONGEST_RETRY_AFTER_S, RetryPolicy, retry_after_s

NOW = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("29", 29),
        ("31", 30),
        ("9" * 5000, 30),
        ("Sun, 29 Nov 2026 12:00:20 GMT", 20),  # RFC 9110's preferred form
        ("Sunday, 29-Nov-26 12:00:20 GMT", 20),  # the obsolete ones must be read, too
        ("Sun Nov 29 12:00:20 2026", 20),
        ("Sun, 29 Nov 2026 13:00:00 GMT", 30),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0),
        (None, 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("٣", 0),
        ("Sun, 99 Nov 2026 13:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(header, seconds):
    assert retry_after_s(header, NOW.timestamp()) == seconds


@given(st.text())
def test_no_header_breaks_it(header):
    assert 0 <= retry_after_s(header, NOW.timestamp()) <= LONGEST_RETRY_AFTER_S


@given(st.integers(-100_000, 100_000))
def test_any_date_is_as_far_as_it_is(seconds):
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(header, NOW.timestamp()) == min(30, max(0, seconds))


@given(st.integers(1, 200), st.floats(0, 30))
def test_pauses_double_up_to_the_longest_and_keep_to_what_the_server_asks(attempt, asked):
    pause = RetryPolicy(attempts=200, first_pause_s=0.5, longest_pause_s=8).pause_s(attempt, asked)
    backoff = min(8, 0.5 * 2 ** (attempt - 1))
    assert asked + backoff / 2 <= pause <= asked + backoff * 1.5
