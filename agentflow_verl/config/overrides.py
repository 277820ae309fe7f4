"""Mistyped keys of ``agentflow`` on a command line.

Hydra answers ``agentflow.max_turn=3`` with the advice to append the key with +. Here the nearest
key is named instead, before Hydra reads the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agentflow_verl.config.base import fields_at, nearest
from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError

# Hydra's forms: key=value, +key=value, ++key=value and ~key.
OVERRIDE = re.compile(r"(?:\+\+?|~)?agentflow\.([\w.-]+)(?:=.*)?", re.DOTALL)


def check_override_keys(arguments: Iterable[str]) -> None:
    """Raises ConfigError for the first override of ``agentflow`` whose key does not exist."""
    for argument in arguments:
        override = OVERRIDE.fullmatch(argument)
        if override:
            _check_path(override.group(1).split("."))


def _check_path(path: list[str]) -> None:
    for depth, name in enumerate(path):
        known = fields_at(AgentflowConfig, tuple(path[:depth]))
        if known and name not in known:
            place = ".".join(["agentflow", *path[: depth + 1]])
            raise ConfigError(f"{place}: unknown key{nearest(name, known)}")
