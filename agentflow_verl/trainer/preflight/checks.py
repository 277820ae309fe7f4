"""The list of checks that a run makes before Ray and ``agentflow doctor`` shows, cheapest first.

Each check raises ConfigError in one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.trainer.preflight import consistency, static
from agentflow_verl.trainer.preflight.attention import attention_notes, check_attention
from agentflow_verl.trainer.preflight.model import check_model
from agentflow_verl.trainer.preflight.reachable import check_reach
from agentflow_verl.trainer.preflight.rows import check_data
from agentflow_verl.trainer.preflight.run_lock import take_lock
from agentflow_verl.trainer.preflight.sizes import check_sizes, size_notes
from agentflow_verl.trainer.shared_prefix.support import check_shared_prefix

logger = logging.getLogger(__name__)

SERVERS = "endpoints and tool servers"
ENGINE, ATTENTION = "rollout engine", "attention"
INSTALLED = (ENGINE, ATTENTION)
"""What is asked of the packages of this machine, which need not be the one that trains."""


@dataclass(frozen=True)
class Check:
    """A named question about a run."""

    name: str
    ask: Callable[[DictConfig, AgentflowConfig], object]


CHECKS = (
    Check("keys of endpoints", lambda config, settings: static.check_keys(settings)),
    Check("prompts", lambda config, settings: Prompts.from_folder(settings.prompts)),
    Check("trained modules", lambda config, settings: static.check_trained_modules(settings)),
    Check("algorithm", lambda config, settings: static.check_algorithm(config)),
    Check("adapter", lambda config, settings: static.check_adapter(config)),
    Check("batch sizes", consistency.check_batches),
    Check("checkpoint to resume", consistency.check_resume),
    Check("reward function", consistency.check_reward_function),
    Check(ENGINE, consistency.check_engine),
    Check(ATTENTION, check_attention),
    Check("parallel sizes", consistency.check_parallel_sizes),
    Check("lengths", consistency.check_lengths),
    Check("output folders", static.check_folders),
    Check("model", lambda config, settings: check_model(config)),
    Check("shared prefixes", lambda config, settings: check_shared_prefix(config)),
    Check("data", lambda config, settings: check_data(config)),
    # After the files, which can be put right on a machine without a GPU.
    Check("devices", static.check_devices),
    Check("sizes", check_sizes),
    Check(SERVERS, lambda config, settings: check_reach(settings)),
)


NOTES: tuple[Callable[[DictConfig, AgentflowConfig], list[str]], ...] = (
    lambda config, settings: attention_notes(config),
    consistency.loopback_notes,
    consistency.resume_notes,
    size_notes,
)


def ask(check: Check, config: DictConfig, settings: AgentflowConfig) -> None:
    """Make one check. Raises ConfigError."""
    with static.named_errors():
        check.ask(config, settings)


def check_run(config: DictConfig, without: Collection[str] = ()) -> AgentflowConfig:
    """Make all checks but those named, and return the validated ``agentflow`` node. Raises
    ConfigError for the first failure.
    """
    settings = static.load_settings(config)
    for check in CHECKS:
        if check.name not in without:
            ask(check, config, settings)
    return settings


def notes(config: DictConfig, settings: AgentflowConfig) -> list[str]:
    """What does not stop a run and should be known before it starts. A note that fails is left
    out.
    """
    found: list[str] = []
    for ask_for in NOTES:
        try:
            found += ask_for(config, settings)
        except Exception:
            logger.debug("a note was left out", exc_info=True)
    return found


def prepare_run(config: DictConfig) -> AgentflowConfig:
    """All checks, then the lock on the run's folder. Raises ConfigError for the first failure."""
    settings = check_run(config)
    folder = config.trainer.default_local_dir
    if "://" not in folder:
        take_lock(Path(folder), "trainer.default_local_dir")
    return settings
