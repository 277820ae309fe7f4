"""For all tests."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import hypothesis
import pytest

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("busy", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("busy")


@pytest.fixture(autouse=True)
def our_logger_as_it_was() -> Iterator[None]:
    """A trainer that a test makes points our lines at verl's handlers; the next test reads them where it expects them."""
    ours = logging.getLogger("agentflow_verl")
    level, handlers, propagate = ours.level, ours.handlers, ours.propagate
    yield
    ours.setLevel(level)
    ours.handlers, ours.propagate = handlers, propagate
