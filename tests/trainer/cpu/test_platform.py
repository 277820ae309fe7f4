"""The CPU as verl's accelerator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FREED = """
import psutil, torch
from agentflow_verl.trainer.cpu.platform import CpuPlatform
blocks = [torch.ones(10 << 20) for _ in range(30)]  # 40 MB each
between = blocks[::3]
del blocks
rss = psutil.Process().memory_info().rss
device = CpuPlatform()
(device if {method} else device.device_module).empty_cache()
print(rss - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize("method", [True, False])
def test_memory_of_freed_blocks_between_others_goes_back_when_verl_empties_the_cache(
    method: bool,
) -> None:
    keeps = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
    done = subprocess.run(
        [sys.executable, "-c", FREED.format(method=method)],
        env={**os.environ, **keeps},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 700 << 20, "of the 800 MB that were freed"
