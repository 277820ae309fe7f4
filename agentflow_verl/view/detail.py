"""One trajectory as the page shows it: its turns, what each added to memory, its tokens, and the
timeline of its calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentflow_verl.core.unicode import well_formed
from agentflow_verl.flow.memory import describe
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import ModuleReply, Tokens, Trajectory, Turn
from agentflow_verl.trajectories.safe_files import read_bounded
from agentflow_verl.view.prompts import PromptRebuilder

MAX_TOKENIZER_BYTES = 256 << 20
MOST_TOKENS = 1 << 32  # an id is 32 bits; a larger one from a broken log would raise an error


@dataclass(frozen=True)
class Span:
    """A stretch of a trajectory's time, in seconds since it began."""

    part: str  # a module, or "tools"
    turn: int | None
    start: float
    seconds: float


def timeline(trajectory: Trajectory) -> tuple[list[Span], bool]:
    """Every call in order, and whether their start times were recorded. If any was not, the calls
    are placed end to end, since they ran one after the other.
    """
    calls = list(_calls(trajectory))
    recorded = None not in [call.started for call in calls]
    spans: list[Span] = []
    clock = 0.0
    for call in calls:
        start = clock
        if recorded and call.started is not None:
            start = call.started
        spans.append(Span(call.part, call.turn, round(start, 4), round(call.seconds, 4)))
        clock = start + call.seconds
    return spans, recorded


@dataclass(frozen=True)
class _Call:
    """A module's reply or a tool's result, as the log has it."""

    part: str
    turn: int | None
    started: float | None
    seconds: float


def _calls(trajectory: Trajectory) -> Iterator[_Call]:
    """All calls in the order in which they ran: within a turn the tool before the verifier."""
    ends = {reply.module: reply for reply in trajectory.replies}
    if "analyst" in ends:
        yield _call_of(ends["analyst"], None)
    for turn in trajectory.turns:
        before = [reply for reply in turn.replies if reply.module != "verifier"]
        for reply in before:
            yield _call_of(reply, turn.index)
        if turn.result is not None:
            yield _Call("tools", turn.index, turn.result.started, turn.result.seconds)
        for reply in turn.replies[len(before) :]:
            yield _call_of(reply, turn.index)
    for module, reply in ends.items():
        if module != "analyst":
            yield _call_of(reply, None)


def _call_of(reply: ModuleReply, turn: int | None) -> _Call:
    return _Call(reply.module, turn, reply.started, reply.seconds)


class Pack:
    """Trajectories that are sent together.

    Each prompt is stored as its difference from the same module's last one, since a turn's prompt
    repeats most of it; the text of each token is stored once.
    """

    def __init__(self, pieces: Pieces, rebuilder: PromptRebuilder):
        self.pieces = pieces
        self.rebuilder = rebuilder
        self.ids: set[int] = set()
        self.trajectories: list[dict[str, Any]] = []
        self._prompts: dict[str, tuple[int, ...]] = {}  # each module's last

    def add(self, scored: ScoredTrajectory, path: Path) -> None:
        """Append a trajectory of the log's file ``path``."""
        trajectory = scored.trajectory
        prompts = self.rebuilder.prompts_of(trajectory, path, self.pieces.count)
        spans, recorded = timeline(trajectory)
        self.trajectories.append(
            {
                "id": trajectory.id,
                "analysis": trajectory.analysis,
                "error": trajectory.error,
                "scores": _named(scored.scores),
                "turns": list(map(self._turn, trajectory.turns)),
                "replies": list(map(self._reply, trajectory.replies)),
                "spans": list(map(asdict, spans)),
                "recorded": recorded,
                "prompts": list(map(asdict, prompts)),
            }
        )

    def add_missing(self, reason: str) -> None:
        """A trajectory that can no longer be read keeps its place."""
        self.trajectories.append(
            {
                "id": "",
                "analysis": "",
                "error": f"This trajectory cannot be read: {reason}",
                "scores": [],
                "turns": [],
                "replies": [],
                "spans": [],
                "recorded": False,
                "prompts": [],
            }
        )

    def content(self) -> dict[str, Any]:
        return {"trajectories": self.trajectories, "pieces": self.pieces.of(self.ids)}

    def _turn(self, turn: Turn) -> dict[str, Any]:
        shown: dict[str, Any] = turn.model_dump(exclude={"call", "tokens", "replies"})
        shown["call"] = None
        if turn.call is not None:
            shown["call"] = {"tool": turn.call.tool, "arguments": _named(turn.call.arguments)}
        shown["tokens"] = None
        if turn.tokens is not None:
            shown["tokens"] = self._tokens("planner", turn.tokens)
        shown["replies"] = list(map(self._reply, turn.replies))
        shown["memory"] = describe(turn)
        return shown

    def _reply(self, reply: ModuleReply) -> dict[str, Any]:
        """``tokens`` are those of a trained module but the planner."""
        shown: dict[str, Any] = reply.model_dump(exclude={"tokens"})
        shown["tokens"] = None
        if reply.tokens is not None:
            shown["tokens"] = self._tokens(reply.module, reply.tokens)
        return shown

    def _tokens(self, module: str, tokens: Tokens) -> dict[str, Any]:
        self.ids.update(tokens.prompt_ids, tokens.response_ids)
        prompt = difference(self._prompts.get(module, ()), tokens.prompt_ids)
        self._prompts[module] = tokens.prompt_ids
        return {
            "prompt": prompt,
            "response": tokens.response_ids,
            # Rounded: floats are most of a chunk's bytes, and nobody reads the seventh digit.
            "logprobs": [round(value, 6) for value in tokens.logprobs],
            "weights": [tokens.weights_first, tokens.weights_last],
        }


def difference(before: Sequence[int], ids: Sequence[int]) -> list[Any]:
    """``ids`` as [n, middle, m]: the first n of ``before``, then the middle, then the last m of
    ``before``.
    """
    head = _shared_prefix(before, ids)
    # Only what the head has left over, so that no token is counted from both ends.
    tail = _shared_prefix(before[head:][::-1], ids[head:][::-1])
    return [head, list(ids[head : len(ids) - tail]), tail]


def _shared_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many items the two sequences share at their beginning."""
    count = 0
    for item, other in zip(first, second):
        if item != other:
            break
        count += 1
    return count


class Pieces:
    """The text of single tokens. Without a readable tokenizer there is no text: the page then shows
    ids, and ``notes`` say why.
    """

    def __init__(self, path: Path | None):
        self.tokenizer: Any = None
        self.notes: list[str] = []
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            # Comes with transformers; a log can be read without it.
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            self.notes.append(f"{path}: not read, since tokenizers is not installed")
            return
        try:
            content = read_bounded(path, MAX_TOKENIZER_BYTES)
            self.tokenizer = Tokenizer.from_buffer(content)
        except (KeyboardInterrupt, SystemExit):
            raise
        # A panic of the Rust library is a PanicException, which derives from BaseException.
        except BaseException as error:
            self.notes.append(f"{path}: {well_formed(str(error))}")

    @property
    def count(self) -> Callable[[str], int] | None:
        """Counts a text's tokens; None without a tokenizer."""
        if self.tokenizer is None:
            return None

        def tokens(text: str) -> int:
            return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

        return tokens

    def of(self, ids: Iterable[int]) -> dict[int, str]:
        """The texts of these tokens, as far as the tokenizer knows them."""
        if self.tokenizer is None:
            return {}
        texts = {}
        for token in sorted(ids):
            if 0 <= token < MOST_TOKENS:
                texts[token] = self.tokenizer.decode([token], skip_special_tokens=False)
        return texts


def _named(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A dictionary as pairs of name and text."""
    return [(name, as_text(value)) for name, value in values.items()]


def as_text(value: Any) -> str:
    """A string as it is, anything else as JSON. As text, because a browser reads every number as a
    double and would change integers above 2**53.
    """
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
