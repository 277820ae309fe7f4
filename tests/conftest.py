"""For all tests."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import hypothesis
import pytest
import yaml

TESTS = Path(__file__).parent
SANDBOX_TESTS = (
    "fairness",
    "job",
    "ordinary_user",
    "sandbox",
    "seccomp",
    "selftest",
    "sessions",
    "slots",
)

# A shell that starts the tests in the background has SIGINT ignored, and so would every process
# that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test asserts a time, and drawing examples is slow where other tests take the cores. The blob of
# a failure reproduces it where its seed is lost.
hypothesis.settings.register_profile(
    "busy",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("busy")


# verl's configuration is forty YAML files, read anew for each composition: two thirds of its time
# with the parser in Python, which OmegaConf takes, and a tenth of that in C.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def marker_of(path: Path) -> str | None:
    """The marker that all tests of a file share, by where the file is."""
    folders = path.relative_to(TESTS).parts
    if folders[0] in ("e2e", "gpu"):
        return folders[0]
    if folders[0] == "tool_servers" and path.stem.removeprefix("test_") in SANDBOX_TESTS:
        return "sandbox"
    if path.stem == "test_packages":  # installs from a package index
        return "network"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = marker_of(item.path)
        if marker == "network" and item.get_closest_marker("slow") is None:
            continue
        if marker is not None:
            item.add_marker(marker)
