"""Tools for the tests of what stands between a client and its servers."""

from tests.tools.conftest import client, echo, faulty

__all__ = ["client", "echo", "faulty"]
