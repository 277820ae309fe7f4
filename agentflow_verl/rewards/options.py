"""The options of a multiple-choice row, in every form in which data sets have them."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.score import as_list

LABEL_KEYS = ("label", "letter", "key", "id", "name", "index")
TEXT_KEYS = ("text", "content", "value", "option", "answer", "body")

# "A. text", "(b) text": the blank keeps "A.M." from being an option A.
LABEL = re.compile(r"\s*[(\[]?([A-Za-z])\s?[.):\]]\s+(.*)", re.DOTALL)


def read_options(options: Any) -> dict[str, str]:
    """Options by upper-case letter; a list is lettered in order, or by its own labels when all
    carry one.

    Records such as ``{"label": "A", "text": "iron"}`` and columns such as ``{"label": ["A", "B"],
    "text": ["iron", "zinc"]}`` give their texts.

    Raises:
        ConfigError: too many options, or a record without a text.
    """
    if options is None:
        return {}
    if isinstance(options, Mapping):
        columns = option_columns(options)
        if columns:
            return columns
        return by_key(options)
    listed = as_list(options)
    if listed and all(isinstance(option, Mapping) for option in listed):
        return option_records(listed)
    texts = list(map(option_text, listed))
    found = {}
    for text in texts:
        label = LABEL.fullmatch(text)
        if label:
            found[label.group(1).upper()] = label.group(2)
    # One unlabelled option, or one letter twice, and the labels are part of the texts.
    if texts and len(found) == len(texts):
        return found
    return lettered(texts)


def by_key(options: Mapping[Any, Any]) -> dict[str, str]:
    """The options of a mapping from letters to texts."""
    found = {}
    for key, text in options.items():
        if text is not None:  # parquet gives each row the keys of all rows
            found[str(key).strip().upper()] = option_text(text)
    return found


def lettered(texts: list[str]) -> dict[str, str]:
    if len(texts) > len(string.ascii_uppercase):
        raise ConfigError(f"{len(texts)} options: at most 26 can be lettered")
    return dict(zip(string.ascii_uppercase, texts, strict=False))


def option_columns(options: Mapping[Any, Any]) -> dict[str, str]:
    """The options of a record of two columns, labels and texts; {} for any other mapping."""
    texts = first_of(options, TEXT_KEYS)
    if not isinstance(texts, (list, tuple)) and not hasattr(texts, "tolist"):
        return {}
    labels = as_list(first_of(options, LABEL_KEYS) or [])
    shown = list(map(option_text, as_list(texts)))
    if len(labels) != len(shown):
        return lettered(shown)
    return with_labels(labels, shown)


def option_records(records: list[Any]) -> dict[str, str]:
    texts, labels = [], []
    for record in records:
        text = first_of(record, TEXT_KEYS)
        if text is None:
            raise ConfigError(
                f"an option is {str(record)[:80]!r}: give options as texts, or as records with a"
                f" {' or '.join(TEXT_KEYS[:2])}"
            )
        texts.append(option_text(text))
        labels.append(first_of(record, LABEL_KEYS))
    if None in labels:
        return lettered(texts)
    return with_labels(labels, texts)


def with_labels(labels: list[Any], texts: list[str]) -> dict[str, str]:
    """Texts by their labels where those are different letters, else lettered in order."""
    letters = [str(label).strip(" .():[]").upper() for label in labels]
    distinct = len(set(letters)) == len(letters)
    if distinct and all(re.fullmatch("[A-Z]", name) for name in letters):
        return dict(zip(letters, texts, strict=True))
    return lettered(texts)


def option_text(option: Any) -> str:
    if isinstance(option, (Mapping, list, tuple)):
        text = None
        if isinstance(option, Mapping):
            text = first_of(option, TEXT_KEYS)
        if text is None:
            raise ConfigError(f"an option is {str(option)[:80]!r}: give each option's text")
        return str(text)
    return str(option)


def first_of(record: Mapping[Any, Any], keys: tuple[str, ...]) -> Any:
    """The value of the first of ``keys`` that is set, whatever the case of the record's keys."""
    lower = {str(key).lower(): value for key, value in record.items()}
    for key in keys:
        if lower.get(key) is not None:
            return lower[key]
    return None


def read_order(shown: str | None, options: dict[str, str]) -> dict[str, str]:
    """The option's own letter by the letter under which it was shown."""
    if shown is None:
        return dict(zip(options, options, strict=True))
    order = str(shown).upper()
    if sorted(order) != sorted("".join(options)):
        raise ConfigError(f"shown={order!r} is no order of the options {''.join(options)}")
    return dict(zip(options, order, strict=True))


def options_as_shown(options: dict[str, str], source: dict[str, str]) -> dict[str, str]:
    """The text that the model saw under each letter; ``source`` is what ``read_order`` gives."""
    shown = {}
    for letter in options:
        shown[letter] = options[source[letter]]
    return shown
