"""What becomes of one option of verl: honoured, or refused when it is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class _Default:
    """The value that verl's own configuration has."""

    def __repr__(self) -> str:
        return "verl's default"


DEFAULT = _Default()


@dataclass(frozen=True)
class Option:
    """One key, or all keys below ``key`` where that ends in ``.*``."""

    key: str
    effect: str
    """What it does here; for one that is refused, why, and what does what is meant."""
    allowed: tuple[Any, ...] | None = None
    """The values that are accepted; ``DEFAULT`` among them is verl's own. None: any."""
    unless: str = ""
    """A switch: while it is on, any value is accepted."""
    any_estimator: bool = False
    """Whether it is refused with verl's own estimators too."""

    def covers(self, key: str) -> bool:
        if self.key.endswith(".*"):
            return key.startswith(self.key[:-1])
        return key == self.key


def honoured(section: str, effect: str, *keys: str) -> Iterable[Option]:
    return (Option(f"{section}.{key}", effect) for key in keys)


def unread(section: str, effect: str, *keys: str, everywhere: bool = False) -> Iterable[Option]:
    """Refused when changed."""
    return (
        Option(f"{section}.{key}", effect, (DEFAULT,), any_estimator=everywhere) for key in keys
    )


def only_with(section: str, switch: str, effect: str, *keys: str) -> Iterable[Option]:
    """Read only where ``switch`` is on; refused when changed elsewhere."""
    return (Option(f"{section}.{key}", effect, (DEFAULT,), unless=switch) for key in keys)
