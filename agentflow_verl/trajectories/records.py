"""The records of a trajectory: frozen, typed, JSON in and out without loss.

A trajectory holds its turns; a turn holds the plan, the tool call, its result and the verdict, the
planner's tokens as they were sampled, and one ``ModuleReply`` for every model call that it took.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """Base of all records: immutable, and strict about unknown keys when read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def first_mistake(error: ValidationError) -> str:
    """Where a record that was read is wrong first, and what is wrong there."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = str(first["msg"])
    return f"{place}: {message}" if place else message


class Outcome(str, Enum):
    """How a trajectory ended. All but ``INFRA_ERROR`` are scored."""

    ANSWERED = "answered"  # the verifier said STOP
    OUT_OF_TURNS = "out_of_turns"  # the turn limit came first; the generator still answered
    OUT_OF_TIME = "out_of_time"  # the time budget came first; finished turns are kept
    MALFORMED = (  # no plan could be read, or the generator gave no answer: the model's fault
        "malformed"
    )
    INFRA_ERROR = (  # a server or a connection: leaves the group's statistics and the loss
        "infra_error"
    )

    @property
    def valid(self) -> bool:
        """Whether the trajectory counts in its group's statistics and in the loss."""
        return self is not Outcome.INFRA_ERROR


class Mistake(str, Enum):
    """What a model did wrong in a turn, so that no tool was called."""

    UNREADABLE_PLAN = "unreadable_plan"
    UNKNOWN_TOOL = "unknown_tool"
    UNUSABLE_CALL = "unusable_call"  # not readable, or not what the tool's schema asks for


class Tokens(Record):
    """One planner reply, token for token. ``logprobs`` is empty when the engine gave none."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    weights_first: int | None = None  # version of the policy that sampled the first token
    weights_last: int | None = None  # and the last one


class ModuleReply(Record):
    """One model call: which module asked, which engine answered, what it said and what it took."""

    module: str
    engine: str
    text: str
    prompt_tokens: int
    response_tokens: int
    cached_tokens: int | None = None  # prompt tokens that the engine served from its prefix cache
    seconds: float
    started: float | None = None  # seconds after the trajectory began; None in older records
    cut: bool = False  # stopped by its token limit
    shared: bool = False  # the answer to an equal prompt, which was not asked again
    prompt_digest: str = ""  # of its prompt, which replay rebuilds; "" in older records
    tokens: Tokens | None = None  # of a trained module but the planner, whose turn has them


class Plan(Record):
    """What the planner decided for one turn.

    ``supplied`` names the parts that its text lacked: left empty, or filled from what is clear.
    """

    justification: str
    context: str
    sub_goal: str
    tool: str
    supplied: tuple[str, ...] = ()


class Call(Record):
    """A tool call as the executor wrote it. Nothing is sent unless the arguments pass the tool's
    schema.
    """

    tool: str
    arguments: dict[str, Any]


class Result(Record):
    """What the tool returned. ``is_error`` is a failure inside the tool's contract: an observation,
    not a fault.
    """

    text: str
    is_error: bool = False
    truncated: bool = False
    seconds: float = 0.0
    started: float | None = None  # seconds after the trajectory began; None in older records
    attempts: int = 1


class Verdict(Record):
    """The verifier's decision. ``parsed`` is False where its text had none, which counts as
    CONTINUE.
    """

    stop: bool
    analysis: str
    parsed: bool = True


class Turn(Record):
    """One pass of plan, execute, verify.

    ``error`` says in words why a part is missing, and ``mistake`` of which kind it was.
    ``known_tools`` are the tools' names where the plan named none of them.
    """

    index: int
    plan: Plan | None = None
    call: Call | None = None
    result: Result | None = None
    verdict: Verdict | None = None
    error: str | None = None
    mistake: Mistake | None = None
    known_tools: tuple[str, ...] = ()
    tokens: Tokens | None = None
    replies: tuple[ModuleReply, ...] = ()


class Trajectory(Record):
    """A question, everything that was done for it, and how it ended.

    ``timings`` are seconds by part.
    """

    id: str
    query: str
    analysis: str = ""
    turns: tuple[Turn, ...] = ()
    answer: str = ""
    outcome: Outcome
    error: str | None = None
    scorer_failed: bool = False  # it came to its end, and could not be scored
    timings: dict[str, float] = {}
    replies: tuple[ModuleReply, ...] = ()  # of the analyst and the generator

    def unscored(self, reason: str) -> Trajectory:
        """This one, whose scorer failed: it ends as any other fault does."""
        ending = {
            "outcome": Outcome.INFRA_ERROR,
            "error": f"the scorer failed: {reason}",
            "scorer_failed": True,
        }
        return self.model_copy(update=ending)

    def replies_in_order(self) -> list[tuple[ModuleReply, Tokens | None]]:
        """Every model call as it was made, with the tokens that were kept of it."""
        first = [reply for reply in self.replies if reply.module == "analyst"]
        last = [reply for reply in self.replies if reply.module != "analyst"]
        found = [(reply, reply.tokens) for reply in first]
        for turn in self.turns:
            for reply in turn.replies:
                # A turn has one planner's reply, whose tokens are the turn's.
                tokens = turn.tokens if reply.module == "planner" else reply.tokens
                found.append((reply, tokens))
        return found + [(reply, reply.tokens) for reply in last]

    def all_replies(self) -> list[ModuleReply]:
        """Every model call of the trajectory, turns included."""
        return [*self.replies, *(reply for turn in self.turns for reply in turn.replies)]
