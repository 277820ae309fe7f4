"""One trajectory as the page shows it: its turns, what each added to memory, its tokens, and when
everything happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentflow_verl.core.unicode import well_formed
from agentflow_verl.flow.memory import describe
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import ModuleReply, Tokens, Trajectory, Turn
from agentflow_verl.trajectories.safe_files import read_bounded

MAX_TOKENIZER_BYTES = 256 << 20
MOST_TOKENS = 1 << 32  # ids above are no tokens of any tokenizer


@dataclass(frozen=True)
class Span:
    """A stretch of a trajectory's time, in seconds since it began."""

    part: str  # a module, or "tools"
    turn: int | None
    start: float
    seconds: float


def timeline(trajectory: Trajectory) -> tuple[list[Span], bool]:
    """Every call in order, and whether the starts were recorded. Where not, calls are laid end to
    end, as they ran.
    """
    calls = list(_calls(trajectory))
    recorded = all(started is not None for _, _, started, _ in calls)
    spans, clock = [], 0.0
    for part, turn, started, seconds in calls:
        start = started if recorded else clock
        spans.append(Span(part, turn, round(start, 4), round(seconds, 4)))
        clock = start + seconds
    return spans, recorded


def _calls(trajectory: Trajectory) -> Iterable[tuple[str, int | None, float | None, float]]:
    ends = {reply.module: reply for reply in trajectory.replies}
    if "analyst" in ends:
        yield _call_of(ends["analyst"], None)
    for turn in trajectory.turns:
        before = [reply for reply in turn.replies if reply.module != "verifier"]
        yield from (_call_of(reply, turn.index) for reply in before)
        if turn.result is not None:
            yield "tools", turn.index, turn.result.started, turn.result.seconds
        yield from (_call_of(reply, turn.index) for reply in turn.replies[len(before) :])
    yield from (_call_of(reply, None) for module, reply in ends.items() if module != "analyst")


def _call_of(reply: ModuleReply, turn: int | None) -> tuple[str, int | None, float | None, float]:
    return reply.module, turn, reply.started, reply.seconds


class Pack:
    """Trajectories that are sent together. Prompts are kept as what differs from the one before,
    token texts once.
    """

    def __init__(self, pieces: Pieces):
        self.pieces = pieces
        self.ids: set[int] = set()
        self.trajectories: list[dict[str, Any]] = []
        self._prompt: tuple[int, ...] = ()

    def add(self, scored: ScoredTrajectory) -> None:
        trajectory = scored.trajectory
        spans, recorded = timeline(trajectory)
        self.trajectories.append(
            {
                "id": trajectory.id,
                "analysis": trajectory.analysis,
                "error": trajectory.error,
                "scores": _named(scored.scores),
                "turns": [self._turn(turn) for turn in trajectory.turns],
                "replies": [reply.model_dump() for reply in trajectory.replies],
                "spans": [asdict(span) for span in spans],
                "recorded": recorded,
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
            }
        )

    def content(self) -> dict[str, Any]:
        return {"trajectories": self.trajectories, "pieces": self.pieces.of(self.ids)}

    def _turn(self, turn: Turn) -> dict[str, Any]:
        shown = turn.model_dump(exclude={"call", "tokens"})
        shown["call"] = (
            None
            if turn.call is None
            else {"tool": turn.call.tool, "arguments": _named(turn.call.arguments)}
        )
        shown["tokens"] = None if turn.tokens is None else self._tokens(turn.tokens)
        shown["memory"] = describe(turn)
        return shown

    def _tokens(self, tokens: Tokens) -> dict[str, Any]:
        self.ids.update(tokens.prompt_ids, tokens.response_ids)
        prompt = difference(self._prompt, tokens.prompt_ids)
        self._prompt = tokens.prompt_ids
        return {
            "prompt": prompt,
            "response": tokens.response_ids,
            "logprobs": [round(value, 6) for value in tokens.logprobs],
            "weights": [tokens.weights_first, tokens.weights_last],
        }


def difference(before: Sequence[int], ids: Sequence[int]) -> list[Any]:
    """``ids`` as [n, middle, m]: the first n of ``before``, then the middle, then the last m of
    ``before``.
    """
    shorter = min(len(before), len(ids))
    head = next((n for n in range(shorter) if before[n] != ids[n]), shorter)
    most = shorter - head
    tail = next((m for m in range(most) if before[-1 - m] != ids[-1 - m]), most)
    return [head, list(ids[head : len(ids) - tail]), tail]


class Pieces:
    """The text of single tokens. Where there is no tokenizer, or one that cannot be read, there is
    none: the page shows ids, and ``notes`` say why.
    """

    def __init__(self, path: Path | None):
        self.tokenizer: Any = None
        self.notes: list[str] = []
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer  # comes with transformers; a log can be read without
        except ModuleNotFoundError:
            self.notes.append(f"{path}: not read, since tokenizers is not installed")
            return
        try:
            content = read_bounded(path, MAX_TOKENIZER_BYTES)
            self.tokenizer = Tokenizer.from_buffer(content)
        except (KeyboardInterrupt, SystemExit):
            raise
        # A panic of the Rust library is no Exception.
        except BaseException as error:
            self.notes.append(f"{path}: {well_formed(str(error))}")

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
    """A dictionary as names and texts: JSON's numbers would not all survive a browser's."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in values.items()
    ]
