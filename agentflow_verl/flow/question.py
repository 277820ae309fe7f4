"""A dataset row as one typed model: what is asked, what is expected, and what its scorer reads.

The check before a run, the agent loop, the reward manager and the evaluation all read rows here, so
a row that passes the check is a row that the run understands.

``prompt`` is a list of messages or one string. A message's content is a string or a list of text
parts. The question is the last user message, which ends the prompt. A system message and earlier
turns stand before it in ``Question.prompt_text``, which every module's prompt shows as the
question:

    Instructions: Answer with a number.

    Earlier conversation:
    User: I have 3 apples.
    Assistant: Noted.

    How many are left after I eat one?

A prompt that is only a question is shown as it is.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agentflow_verl.core.errors import ConfigError

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}
MEDIA_COLUMNS = ("images", "videos", "audios")
SHOWN_CHARS = 60
PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})


class RowModel(BaseModel):
    """Base of the models here: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PromptMessage(RowModel):
    """One message of a prompt, as text."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str


class Question(RowModel):
    """What a row asks: the last user message, and what was said before it."""

    text: str
    instructions: str = ""
    earlier: tuple[PromptMessage, ...] = ()

    @property
    def prompt_text(self) -> str:
        """The question with its instructions and earlier turns, as the modules' prompts show it."""
        parts = []
        if self.instructions:
            parts.append(f"Instructions: {self.instructions}")
        if self.earlier:
            said = [f"{SPEAKERS[message.role]}: {message.text}" for message in self.earlier]
            parts.append("\n".join(["Earlier conversation:", *said]))
        return "\n\n".join([*parts, self.text])


class DatasetRow(RowModel):
    """A row of a data file. ``gold`` is None where the row has none; its scorer decides whether it
    needs one.
    """

    data_source: str
    question: Question
    gold: Any = None
    extra_info: dict[str, Any] = {}

    @property
    def scorer_extra(self) -> dict[str, Any]:
        """What a scorer reads beside the gold: ``extra_info`` and the question."""
        return {**self.extra_info, "question": self.question.text}


def parse_row(
    row: Mapping[str, Any],
    prompt_key: str = "prompt",
    media_columns: Iterable[str] = MEDIA_COLUMNS,
) -> DatasetRow:
    """A row in verl's form (``data_source``, a prompt, ``reward_model``, ``extra_info``).

    Raises:
        ConfigError: a part that is missing, or of another form than those above. The message names
            the part; the caller knows the file and the row.
    """
    for name in media_columns:
        value = without_numpy(row.get(name))
        if value is not None and value != []:
            raise ConfigError(f"{name} is not empty: the agent reads text only")
    reward_model = without_numpy(row.get("reward_model"))
    if reward_model is not None and not isinstance(reward_model, dict):
        raise ConfigError(
            f"reward_model is {_shown(reward_model)}: it must be an object with ground_truth"
        )
    extra_info = without_numpy(row.get("extra_info"))
    if extra_info is not None and not isinstance(extra_info, dict):
        raise ConfigError(f"extra_info is {_shown(extra_info)}: it must be an object, or missing")
    source = row.get("data_source")
    return DatasetRow(
        data_source="" if source is None else str(source),
        question=parse_prompt(row.get(prompt_key), prompt_key),
        gold=(reward_model or {}).get("ground_truth"),
        extra_info={str(key): value for key, value in (extra_info or {}).items()},
    )


def parse_prompt(prompt: Any, name: str = "prompt") -> Question:
    """The question of a prompt column's value.

    Raises:
        ConfigError: no user text, media, or another form; the message starts with ``name``.
    """
    prompt = without_numpy(prompt)
    if isinstance(prompt, str):
        return Question(text=_checked_text(prompt, name))
    if not isinstance(prompt, list):
        raise ConfigError(f"{name} is {_shown(prompt)}: it must be a list of messages, or a string")
    messages = [_message(message, f"{name}[{at}]") for at, message in enumerate(prompt)]
    if not any(message.role == "user" for message in messages):
        raise ConfigError(f"{name} has no user message, so nothing is asked")
    last = messages[-1]
    if last.role != "user":
        raise ConfigError(
            f"{name} ends with a message of the role {last.role!r}: end it with the user's question"
        )
    if not last.text:
        raise ConfigError(f"{name} has no text in its last user message, so nothing is asked")
    instructions = [message.text for message in messages if message.role == "system"]
    earlier = [message for message in messages[:-1] if message.role != "system" and message.text]
    return Question(
        text=last.text,
        instructions="\n\n".join(filter(None, instructions)),
        earlier=tuple(earlier),
    )


def has_answer(gold: Any) -> bool:
    """Whether a gold holds anything to compare with. Raises ConfigError for a date or bytes, which
    no scorer reads as they were written.
    """
    if gold is None:
        return False
    if isinstance(gold, str):
        return bool(gold.strip())
    if isinstance(gold, (bool, int)):
        return True
    if isinstance(gold, float):
        return not math.isnan(gold)
    if isinstance(gold, Mapping):
        return has_answer(list(gold.values()))
    if isinstance(gold, (list, tuple)):
        return any([has_answer(item) for item in gold])
    if isinstance(gold, (datetime.date, datetime.time, bytes)):
        raise ConfigError(
            f"reward_model.ground_truth is of the type {type(gold).__name__}: write it as a string,"
            " in a parquet file (a JSON reader turns text such as 2024-05-01 into a date)"
        )
    return True


def without_numpy(value: Any) -> Any:
    """NumPy arrays and scalars, at any depth, as plain Python; tuples as lists."""
    if type(value) in PLAIN_TYPES:  # most values: a check of a whole file comes here a lot
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (dict, Mapping)):
        return {key: without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_numpy(item) for item in value]
    return value


def _message(message: Any, where: str) -> PromptMessage:
    if not isinstance(message, dict):
        raise ConfigError(f"{where} is {_shown(message)}: a message is an object of role, content")
    if "role" not in message or "content" not in message:
        # As written in Python, without quotes: a key may hold a line break.
        names = ", ".join(repr(str(key))[1:-1][:SHOWN_CHARS] for key in message)
        raise ConfigError(f"{where} has the keys {names}: a message has role and content")
    role = ROLES.get(message["role"]) if isinstance(message["role"], str) else None
    if role is None:
        raise ConfigError(
            f"{where}.role is {message['role']!r}: use one of {', '.join(sorted(ROLES))}"
        )
    return PromptMessage(role=role, text=_content_text(message["content"], f"{where}.content"))


def _content_text(content: Any, where: str) -> str:
    """A message's text: its string, or its text parts, a line each."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        content = [content]
    return "\n".join([_part_text(part, where) for part in content]).strip()


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise ConfigError(f"{where} is {_shown(part)}: it must be a string, or parts of text")
    kind = part.get("type", "text")
    text = part.get("text")
    if kind not in ("text", "input_text") or not isinstance(text, str):
        raise ConfigError(f"{where} has a part of the type {kind!r}: the agent reads text only")
    return text


def _checked_text(text: str, name: str) -> str:
    if not text.strip():
        raise ConfigError(f"{name} is empty, so nothing is asked")
    if text.lstrip().startswith("[{") and '"role"' in text:
        raise ConfigError(
            f"{name} is JSON text of messages: store the messages themselves, not their text"
        )
    return text.strip()


def _shown(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "null"
    text = repr(value)
    if len(text) > SHOWN_CHARS:
        text = f"{text[:SHOWN_CHARS]}…"
    return f"{type(value).__name__} {text}"
