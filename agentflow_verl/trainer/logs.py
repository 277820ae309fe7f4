"""Our log lines in verl's processes.

Libraries that the trainer's process imports raise the root logger to ERROR there. verl keeps its
own lines out of that (verl/utils/logging_utils.py:23); without the same, nobody would read that a
run resumed or a tool server was restarted.
"""

from __future__ import annotations

import logging


def share_verls_log() -> None:
    """From now on, in this process, lines of ours are written where verl's are, from the same level
    on.
    """
    verl, ours = logging.getLogger("verl"), logging.getLogger("agentflow_verl")
    ours.setLevel(verl.level)
    ours.handlers, ours.propagate = verl.handlers, False
