"""No option of verl's is ignored: each is honoured, or refused before the run with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer import policy_losses
from agentflow_verl.trainer.preflight import verl_options
from agentflow_verl.trainer.preflight.option_table import ACTOR, OPTIONS, ROLLOUT, SECTIONS
from agentflow_verl.trainer.preflight.verl_options import (
    check_options,
    leaves,
    option_of,
    refusal,
)
from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name

pytestmark = pytest.mark.usefixtures("hydra")


def every_key(config: DictConfig) -> list[str]:
    return [key for section in SECTIONS for key, _ in leaves(config, section)]


def test_every_option_of_the_installed_verl_is_named_once():
    """A failure means: verl has an option that nobody has thought about. Decide, and add it."""
    assert len(KEYS) > 250
    unnamed = [key for key in KEYS if option_of(key) is None]
    assert not unnamed
    twice = [key for key in KEYS if sum(option.covers(key) for option in OPTIONS) > 1]
    assert not twice


def test_no_entry_is_left_over_from_an_older_verl():
    assert not [option.key for option in OPTIONS if not any(map(option.covers, KEYS))]


def test_a_new_option_of_verls_is_noticed():
    with_news = OmegaConf.merge(verl_options._verls_defaults(), {"algorithm": {"brand_new": 1}})
    assert [key for key in every_key(with_news) if option_of(key) is None] == [
        "algorithm.brand_new"
    ]


def test_agentflows_own_configuration_is_accepted():
    check_options(composed())
    check_options(composed("platform=cpu"))
    check_options(composed("algorithm.adv_estimator=grpo"))


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return "something else"


@contextmanager
def changed_to(config: DictConfig, key: str, value: Any) -> Iterator[None]:
    before = OmegaConf.select(config, key)
    with open_dict(config):
        OmegaConf.update(config, key, value, force_add=True)
        yield
        OmegaConf.update(config, key, before)


KEYS = every_key(verl_options._verls_defaults())
REFUSED = [
    (option, key)
    for option in OPTIONS
    if option.allowed is not None and not option.unless
    for key in KEYS
    if option.covers(key)
]


@pytest.fixture(scope="module")
def settings(hydra: None) -> DictConfig:  # noqa: F811
    return composed()


@pytest.mark.parametrize("option, key", REFUSED, ids=[key for _, key in REFUSED])
def test_what_would_be_ignored_is_refused_by_name(option, key, settings):
    value = OmegaConf.select(settings, key, throw_on_missing=False)
    if value is not None:
        assert refusal(option, key, value, settings) is None
    complaint = refusal(option, key, changed(value), settings)
    assert complaint is not None
    assert complaint.startswith(f"{key}=")
    assert option.effect in complaint


def test_flow_grpos_rules_bind_flow_grpo_only(settings):
    with changed_to(settings, f"{ACTOR}.loss_agg_mode", "seq-mean-token-mean"):
        with changed_to(settings, "algorithm.adv_estimator", "grpo"):
            check_options(settings)
            with changed_to(settings, f"{ROLLOUT}.multi_turn.enable", True):
                with pytest.raises(ConfigError, match="agentflow.max_turns"):
                    check_options(settings)


@pytest.mark.parametrize(
    "overrides, says",
    [
        ([f"{ACTOR}.loss_agg_mode=seq-mean-token-mean"], "trajectory_weight"),
        ([f"{ACTOR}.loss_scale_factor=100"], "flow_grpo weighs every token"),
        (["algorithm.norm_adv_by_std_in_grpo=false"], "agentflow.flow_grpo.std=false"),
        (["algorithm.use_pf_ppo=true"], "filter_groups.enable"),
        (["algorithm.gamma=0.9"], "undiscounted"),
        (["algorithm.lam=0.9"], "undiscounted"),
        (["reward.reward_model.enable=true"], "agentflow.judge"),
        (["reward_model.enable=true"], "under reward"),
        ([f"{ROLLOUT}.enable_rollout_routing_replay=true"], "routed experts"),
        ([f"{ROLLOUT}.multi_turn.max_assistant_turns=3"], "agentflow.max_turns"),
        ([f"{ACTOR}.use_kl_loss=false", f"{ACTOR}.kl_loss_coef=0.1"], "use_kl_loss=true"),
        ([f"{ACTOR}.kl_loss_type=full"], "low_var_kl"),
        (["algorithm.kl_ctrl.kl_coef=0.1"], "use_kl_in_reward=true"),
        ([f"{ACTOR}.grad_clip=0.5"], "optim.clip_grad"),
        ([f"{ACTOR}.clip_ratio=0.1"], "clip_ratio_low"),
        ([f"{ACTOR}.policy_loss.loss_mode=clip_cov"], "depends on its neighbours"),
        ([f"{ACTOR}.policy_loss.loss_mode=kl_cov"], "depends on its neighbours"),
        ([f"{ACTOR}.policy_loss.loss_mode=no_such"], "vanilla"),
        ([f"{ACTOR}.policy_loss.loss_mode=dro"], "dro_beta"),
        (["algorithm.adv_estimator=no_such"], "flow_grpo, or of verl's .*grpo"),
        (
            [
                "algorithm.rollout_correction.rollout_is=token",
                f"{ROLLOUT}.calculate_log_probs=false",
            ],
            "calculate_log_probs=true",
        ),
        (["algorithm.rollout_correction.rollout_is_threshold=3"], "rollout_correction.rollout_is"),
        (["agentflow.flow_grpo.sequence=trajectory"], "rollout_is=sequence"),
    ],
)
def test_the_option_that_does_what_is_meant_is_named(overrides, says):
    with pytest.raises(ConfigError, match=says):
        check_options(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0.1"],
        [f"{ACTOR}.shuffle=true", f"{ACTOR}.data_loader_seed=7"],
        [f"{ACTOR}.kl_loss_type=k3+"],
        [f"{ACTOR}.policy_loss.loss_mode=dro", f"{ACTOR}.policy_loss.dro_beta=0.1"],
        ["algorithm.filter_groups.enable=true", "algorithm.filter_groups.max_num_gen_batches=3"],
        [
            "algorithm.rollout_correction.rollout_is=sequence",
            "agentflow.flow_grpo.sequence=trajectory",
        ],
    ],
)
def test_what_is_honoured_is_accepted(overrides):
    check_options(composed(*overrides))


def test_every_policy_loss_of_verls_is_either_weighted_or_refused():
    decided = {*policy_losses.SUPPORTED, *policy_losses.REFUSED}
    assert decided == set(POLICY_LOSS_REGISTRY)
    for mode in policy_losses.SUPPORTED:
        beta = "0.1" if mode == "dro" else "null"
        check_options(
            composed(
                f"{ACTOR}.policy_loss.loss_mode={mode}", f"{ACTOR}.policy_loss.dro_beta={beta}"
            )
        )
