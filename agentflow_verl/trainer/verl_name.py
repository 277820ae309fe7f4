"""What verl_api.py, the table of upstream names, is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Use = Literal["overridden", "repeated", "replaced", "read", "called"]
# overridden: a subclass of ours has a method of this name, which calls verl's
# repeated:   a subclass has one that does verl's work itself; the digest of verl's source is pinned
# replaced:   set on an object or module that is not ours, at run time


@dataclass(frozen=True)
class Name:
    """One method or attribute of ``Owner``."""

    name: str
    use: Use
    line: int
    """Where it is defined or first assigned, in the owner's file unless ``file`` says another."""
    reason: str
    file: str = ""


@dataclass(frozen=True)
class Owner:
    """A class or module, and the file that defines it, below site-packages."""

    module: str
    qualname: str
    """Empty for a module's own names."""
    file: str
    names: tuple[Name, ...]
