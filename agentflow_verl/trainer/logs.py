"""Our log lines in verl's processes.

Libraries that the trainer's process imports raise the root logger to ERROR there. verl keeps its
own lines out of that (verl/utils/logging_utils.py:23); without the same, nobody would read that a
run resumed or a tool server was restarted.
"""

from __future__ import annotations

import logging
import sys

from agentflow_verl.trainer.terminal import MARK


def log_beside_verl() -> None:
    """From now on, in this process, lines of ours are written where verl's are, from the same level
    on, and warnings so that a quiet terminal shows them.
    """
    verl, ours = logging.getLogger("verl"), logging.getLogger("agentflow_verl")
    shown = logging.StreamHandler(sys.stdout)
    shown.setLevel(logging.WARNING)
    shown.setFormatter(logging.Formatter(f"{MARK}%(message)s"))
    ours.setLevel(verl.level)
    # Replaced, not added: no line is shown twice where this is called twice.
    ours.handlers, ours.propagate = [shown], False
    for handler in verl.handlers:
        ours.addHandler(_BelowWarning(handler))


class _BelowWarning(logging.Handler):
    """Hands on what is less than a warning: those are shown already."""

    def __init__(self, handler: logging.Handler):
        super().__init__()
        self.handler = handler

    def handle(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return False
        return bool(self.handler.handle(record))
