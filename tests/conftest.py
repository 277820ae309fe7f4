"""For all tests."""

from __future__ import annotations

import signal

import hypothesis

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("busy", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("busy")
