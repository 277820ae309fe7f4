"""No option of verl is ignored: each is honoured, or refused before the run.

An option that flow_grpo, the agent loop or the reward manager do not read must not be set in vain.
option_table.py says of each what becomes of it; here a run's configuration is compared with it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.policy_losses import REFUSED
from agentflow_verl.trainer.preflight.option import DEFAULT, Option
from agentflow_verl.trainer.preflight.option_table import ACTOR, OPTIONS, ROLLOUT, SECTIONS

ESTIMATOR = "flow_grpo"

_BY_KEY = {option.key: option for option in OPTIONS if not option.key.endswith(".*")}
_BY_PREFIX = [option for option in OPTIONS if option.key.endswith(".*")]


def check_options(config: DictConfig) -> None:
    """Refuse what would be ignored. Raises ConfigError: the key, and what does what is meant."""
    is_flow_grpo = config.algorithm.adv_estimator == ESTIMATOR
    for section in SECTIONS:
        for key, value in leaves(config, section):
            option = option_of(key)
            if option is None or not (is_flow_grpo or option.any_estimator):
                continue  # verl itself refuses a key that it does not know
            complaint = refusal(option, key, value, config)
            if complaint is not None:
                raise ConfigError(complaint)
    if is_flow_grpo:
        _check_combinations(config)
    else:
        _check_estimator(str(config.algorithm.adv_estimator))


def refusal(option: Option, key: str, value: Any, config: DictConfig) -> str | None:
    """Why ``key`` may not have ``value``, and what does what is meant; None where it may."""
    if _accepts(option, key, value, config):
        return None
    reason = REFUSED.get(str(value)) if option.key.endswith("loss_mode") else None
    effect = option.effect if reason is None else f"{reason}; {option.effect}"
    return f"{key}={_written(value)}: {effect}"


def option_of(key: str) -> Option | None:
    """The entry of ``OPTIONS`` that names ``key``; None for one that is no option of verl's."""
    if key in _BY_KEY:
        return _BY_KEY[key]
    for option in _BY_PREFIX:
        if option.covers(key):
            return option
    return None


def leaves(config: DictConfig, section: str) -> list[tuple[str, Any]]:
    """Every option below ``section`` and its resolved value. An empty node is a value."""
    root = OmegaConf.select(config, section)
    if not isinstance(root, DictConfig):
        return []
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, DictConfig]] = [(section, root)]
    while waiting:
        path, node = waiting.pop()
        for name in node:
            key = ".".join((path, str(name)))
            value = "???" if OmegaConf.is_missing(node, name) else node[name]
            if isinstance(value, DictConfig) and len(value):
                waiting.append((key, value))
            else:
                found.append((key, value))
    return sorted(found, key=lambda leaf: leaf[0])


@cache
def _verls_defaults() -> DictConfig:
    """verl's own configuration, composed: verl ships it beside its sources."""
    text = files("verl.trainer.config").joinpath("_generated_ppo_trainer.yaml").read_text()
    composed = OmegaConf.create(text)
    assert isinstance(composed, DictConfig)
    return composed


def _accepts(option: Option, key: str, value: Any, config: DictConfig) -> bool:
    if option.allowed is None:
        return True
    if option.unless and OmegaConf.select(config, option.unless):
        return True
    if DEFAULT not in option.allowed:
        return value in option.allowed
    default = OmegaConf.select(_verls_defaults(), key, throw_on_missing=False)
    return bool(value == default) or value == "???"


def _written(value: Any) -> str:
    """As on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_combinations(config: DictConfig) -> None:
    correction = config.algorithm.get("rollout_correction") or {}
    for name in ("rollout_is", "rollout_rs"):
        if correction.get(name) and not config.actor_rollout_ref.rollout.calculate_log_probs:
            raise ConfigError(
                f"algorithm.rollout_correction.{name}={correction.get(name)} compares with the"
                f" log-probabilities of the rollout: set {ROLLOUT}.calculate_log_probs=true"
            )
    if config.agentflow.flow_grpo.sequence == "trajectory":
        if correction.get("rollout_is") != "sequence":
            raise ConfigError(
                "agentflow.flow_grpo.sequence=trajectory is what"
                " algorithm.rollout_correction.rollout_is=sequence multiplies over: set that too"
            )
        if correction.get("rollout_is_batch_normalize"):
            raise ConfigError(
                "algorithm.rollout_correction.rollout_is_batch_normalize=true takes the mean over"
                " rows: leave it false with agentflow.flow_grpo.sequence=trajectory"
            )
    policy_loss = config.actor_rollout_ref.actor.policy_loss
    if policy_loss.loss_mode == "dro" and not policy_loss.dro_beta:
        raise ConfigError(f"{ACTOR}.policy_loss.loss_mode=dro: set policy_loss.dro_beta above 0")


def _check_estimator(name: str) -> None:
    if name == ESTIMATOR:
        return
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY  # heavy

    known = sorted(str(getattr(each, "value", each)) for each in ADV_ESTIMATOR_REGISTRY)
    if name not in known:
        raise ConfigError(
            f"algorithm.adv_estimator={name}: there is no such estimator; choose {ESTIMATOR}, or of"
            f" verl's {', '.join(known)}"
        )
