"""Every failure belongs to one boundary, and the boundary decides what happens to the trajectory.

ConfigError        the user's configuration: one line, before anything starts
MalformedOutput    the model's text: an observation, or the outcome ``malformed`` (scored)
OutOfTime          the trajectory's budget: the outcome ``out_of_time`` (scored)
InfraError         not the model's fault: the outcome ``infra_error`` (leaves statistics and loss)

What decides between the last two is who chose what takes the time: a program or a page that the
model chose uses up its budget, a server of the run that does not answer is infrastructure.
"""

from __future__ import annotations


class AgentflowError(Exception):
    """Root of the taxonomy."""


class ConfigError(AgentflowError):
    """The configuration is wrong. The message says what, where and what to do."""


class MalformedOutput(AgentflowError):
    """A model's text could not be parsed into what its module must return."""


class OutOfTime(AgentflowError):
    """A deadline passed. The work behind it has been cancelled at its source.

    ``waited_s`` is the trajectory's time that was spent, or would have to be, on waiting for a
    server of the run that did not answer; 0 where the model's own work took it. ``answered`` says
    that the server did answer, but too late.
    """

    def __init__(self, message: str, waited_s: float = 0.0, answered: bool = False) -> None:
        super().__init__(message)
        self.waited_s = waited_s
        self.answered = answered


class InfraError(AgentflowError):
    """A server, a connection or a judge failed: nothing the model did."""


class PromptTooLong(InfraError):
    """A prompt is over its engine's limit even with an empty memory: the data or the limit is at
    fault.

    ``tokens`` and ``limit`` are in tokens, None where the engine does not say.
    """

    def __init__(self, message: str, tokens: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit
