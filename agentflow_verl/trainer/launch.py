"""Before a run: everything that can be checked cheaply, in one clear line. After it: nothing is
left behind.

A Hydra callback of the agentflow config, so it runs in the driver between composing the config and
starting Ray. Hydra turns an exception of a callback into a warning; only SystemExit ends the
program.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from verl.plugin.platform.platform_manager import set_platform
from verl.utils.device import auto_set_device

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.shared_memory import sweep_shared_memory
from agentflow_verl.trainer.cpu.platform import CpuPlatform, answer_to_vllm
from agentflow_verl.trainer.preflight.checks import notes, prepare_run
from agentflow_verl.trainer.resilience.cleanup import (
    sweep_after_this_process,
    use_own_temporary_folder,
)
from agentflow_verl.trainer.terminal import MARK, QuietTerminal, verl_is_loud

LOG = "run.log"  # in the run's folder


class LaunchCallback(Callback):
    """``hydra.callbacks.agentflow`` of config/agentflow.yaml."""

    def __init__(self) -> None:
        self.terminal: QuietTerminal | None = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Before Hydra copies the configuration for the job: what is decided by this machine is
        decided here once, not again by each process that reads it.
        """
        if config.trainer.device != "cpu":
            auto_set_device(config)
        model = config.actor_rollout_ref.model
        model.use_remove_padding = model.use_remove_padding
        override = model.get("override_config")
        if override and "attn_implementation" in override:
            override.attn_implementation = override.attn_implementation

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if config.trainer.device == "cpu":
            os.environ["VERL_PLATFORM"] = "cpu"
            set_platform(CpuPlatform())
            answer_to_vllm()
        try:
            settings = prepare_run(config)
        except ConfigError as wrong:
            print(f"{MARK}{wrong}", file=sys.stderr)
            raise SystemExit(2) from None
        # Hydra calls on_job_end for no job that is interrupted or killed
        self._sweeper = sweep_after_this_process(use_own_temporary_folder())
        for note in notes(config, settings):
            print(f"{MARK}{note}", flush=True)
        if settings.log_level == "WARNING" and not verl_is_loud(os.environ):
            self._be_quiet(Path(config.trainer.default_local_dir) / LOG)

    def _be_quiet(self, log: Path) -> None:
        print(f"{MARK}starting; verl, vLLM and Ray write to {log}", flush=True)
        self.terminal = QuietTerminal(log)
        self.terminal.start()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        import ray

        ray.shutdown()
        sweep_shared_memory()
        if self.terminal is not None:
            self.terminal.close()
        if job_return.status is JobStatus.COMPLETED:
            print(f"{MARK}{what_next(config.agentflow.trajectory_dir)}", flush=True)
        elif self.terminal is not None:
            print(f"{MARK}the run failed; all that was printed: {self.terminal.log}", flush=True)


def what_next(trajectory_dir: str | None) -> str:
    """What a run that is done says: where what it did can be seen, if it was kept."""
    if not trajectory_dir:
        return "done; no trajectory was kept (agentflow.trajectory_dir is null)"
    log = Path(trajectory_dir)
    run = log.parent if log.name == "trajectories" else log
    return f"done; look at what it did: agentflow view {shlex.quote(str(run))}"
