"""Before a run: everything that can be checked cheaply, in one clear line. After it: nothing is
left behind.

A Hydra callback of the agentflow config, so it runs in the driver between composing the config and
starting Ray. Hydra turns an exception of a callback into a warning; only SystemExit ends the
program.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from verl.plugin.platform.platform_manager import set_platform

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.cpu.platform import CpuPlatform, answer_to_vllm
from agentflow_verl.trainer.preflight import static as checks
from agentflow_verl.trainer.preflight.reachable import check_reach
from agentflow_verl.trainer.progress import note_terminal
from agentflow_verl.trainer.resilience.cleanup import (
    sweep_after_this_process,
    sweep_shared_memory,
    use_own_temporary_folder,
)

logger = logging.getLogger(__name__)


class LaunchCallback(Callback):
    """``hydra.callbacks.agentflow`` of config/agentflow.yaml."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if config.trainer.device == "cpu":
            os.environ["VERL_PLATFORM"] = "cpu"
            set_platform(CpuPlatform())
            answer_to_vllm()
        try:
            check_reach(checks.check(config))
        except ConfigError as wrong:
            print(f"agentflow: {wrong}", file=sys.stderr)
            raise SystemExit(2) from None
        note_terminal()
        self._sweeper = sweep_after_this_process(
            use_own_temporary_folder()
        )  # Hydra calls on_job_end for no job that is interrupted or killed

    def on_job_end(self, config: DictConfig, **_: Any) -> None:
        import ray

        ray.shutdown()
        sweep_shared_memory()
