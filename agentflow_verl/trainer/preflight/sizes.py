"""What the run will take, beside what this machine has: what cannot fit is refused, what is tight
is said.
"""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.model import local_model
from agentflow_verl.trainer.sizing.machine import machine_here
from agentflow_verl.trainer.sizing.model import size_of
from agentflow_verl.trainer.sizing.plan import PHASES, Plan, gib, known_steps, make_plan

logger = logging.getLogger(__name__)


def check_sizes(config: DictConfig, settings: AgentflowConfig) -> None:
    """Raises ConfigError for what certainly ends the run."""
    plan = plan_here(config, settings)
    if plan is not None and plan.problems:
        raise ConfigError(f"{plan.problems[0]} (agentflow plan shows the parts)")


def size_notes(config: DictConfig, settings: AgentflowConfig) -> list[str]:
    """The estimate in a line, where there is a GPU, and what is tight."""
    plan = plan_here(config, settings)
    if plan is None:
        return []
    notes = [f"tight: {warning}" for warning in plan.warnings]
    if plan.parts:
        update, log_probs, sampling = (gib(plan.total(phase)) for phase in PHASES)
        notes.insert(
            0,
            f"about {update} of a GPU's memory to update, {log_probs} for log-probabilities,"
            f" {sampling} to sample (agentflow plan shows the parts)",
        )
    return notes


def plan_here(config: DictConfig, settings: AgentflowConfig) -> Plan | None:
    """None for a model whose configuration is not here yet, or is of an unusual shape: a run does
    not end for want of an estimate.
    """
    try:
        folder = local_model(config)
        path = str(folder or config.actor_rollout_ref.model.path)
        size = size_of(path, fetch=False)
        return make_plan(config, settings, size, machine_here(config), known_steps(config))
    except ConfigError as wrong:
        logger.info("no estimate of sizes: %s", wrong)
    except Exception:  # of a file or an option that other checks judge
        logger.debug("no estimate of sizes", exc_info=True)
    return None
