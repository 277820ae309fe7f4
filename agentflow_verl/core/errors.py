"""Every failure belongs to one boundary, and the boundary decides what happens to the trajectory.

ConfigError        the user's configuration: one line, before anything starts
MalformedOutput    the model's text: an observation, or the outcome ``malformed`` (scored)
OutOfTime          the trajectory's budget: the outcome ``out_of_time`` (scored)
InfraError         not the model's fault: the outcome ``infra_error`` (leaves statistics and loss)
"""


class AgentflowError(Exception):
    """Root of the taxonomy."""


class ConfigError(AgentflowError):
    """The configuration is wrong. The message says what, where and what to do."""


class MalformedOutput(AgentflowError):
    """A model's text could not be parsed into what its module must return."""


class OutOfTime(AgentflowError):
    """A deadline passed. The work behind it has been cancelled at its source."""


class InfraError(AgentflowError):
    """A server, a connection or a judge failed: nothing the model did."""


class PromptTooLong(InfraError):
    """A prompt is over its engine's limit even with an empty memory: the data or the limit is at
    fault.
    """
