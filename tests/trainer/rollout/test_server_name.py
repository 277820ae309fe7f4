"""The frozen servers are found under the names that verl gives them, read in its source: SGLang
need not be installed.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import verl

from agentflow_verl.trainer.rollout.frozen_base import server_name


@pytest.mark.parametrize(
    ("engine", "file"), [("vllm", "vllm_async_server.py"), ("sglang", "async_sglang_server.py")]
)
def test_a_frozen_servers_name_is_the_one_that_verl_gives_it(engine, file):
    source = (
        Path(verl.__file__).parent / "workers" / "rollout" / f"{engine}_rollout" / file
    ).read_text()
    [pattern] = re.findall(r'name = (f"[^"]*server_teacher_[^"]*")', source)
    replica = SimpleNamespace(
        config=SimpleNamespace(name=engine), replica_rank=3, name_suffix="_agentflow_base"
    )
    assert server_name(replica) == eval(
        pattern, {"prefix": f"{engine}_", "self": replica, "node_rank": 0}
    )
