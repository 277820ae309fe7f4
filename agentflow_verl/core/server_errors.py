"""The infrastructure errors of tools, with what decides whether and when to ask again. All are
``InfraError``.

What a tool reports inside its contract is no exception but a ``ToolResult`` with ``is_error``.
"""

from __future__ import annotations

from agentflow_verl.core.errors import InfraError


class ServerFault(InfraError):
    """A server failed to answer one request.

    ``reached`` says whether the tool may have run, ``busy`` that the server works but turned this
    request away, and ``retry_after_s`` when it asked to be asked again, in seconds (0 where it did
    not say).
    """

    def __init__(
        self, message: str, *, reached: bool = True, busy: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.reached = reached
        self.busy = busy
        self.retry_after_s = retry_after_s


class NoReplica(InfraError):
    """Every URL of a server has failed lately and gets no calls for now."""
