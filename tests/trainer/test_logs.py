"""What our code says in the trainer's process is read, whatever libraries do to the root logger
there.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
from verl.utils.logging_utils import configure_verl_logging
from agentflow_verl.trainer.logs import log_beside_verl
configure_verl_logging()
logging.getLogger().setLevel(logging.ERROR)
ours = logging.getLogger("agentflow_verl.trainer.resilience.resumable_trainer")
ours.warning("not read")
log_beside_verl()
ours.warning("resumed")
ours.info("and started")
"""


def test_warnings_are_read_where_the_root_logger_lets_only_errors_through():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True
    )
    said = [line for line in ended.stderr.splitlines() if "read" in line or "started" in line]
    assert [line.split(":")[0] for line in said] == ["INFO"]
    assert [line.rpartition(":")[2] for line in said] == ["and started"]
    assert ended.stdout.splitlines()[-1] == "agentflow: resumed", "as a quiet terminal shows it"
