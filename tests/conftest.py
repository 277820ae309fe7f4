"""For all tests."""

from __future__ import annotations

import logging
import signal

import hypothesis
import pytest

# A shell that starts the tests in the background has SIGINT ignored, and so would every process
# that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("busy", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("busy")


@pytest.fixture(autouse=True)
def our_lines_are_read() -> None:
    """Whatever a trainer that an earlier test made did to our logger, and a library that vLLM
    imports to all handlers (level ERROR).
    """
    ours, root = logging.getLogger("agentflow_verl"), logging.getLogger()
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)
    root.setLevel(min(root.level, logging.WARNING))
    for handler in root.handlers:  # pytest's, the same for all tests
        handler.setLevel(logging.NOTSET)
