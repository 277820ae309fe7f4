"""A rollout engine that samples from other weights than the actor's ends the run."""

from __future__ import annotations

import pytest

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.resilience.weight_agreement import (
    DIFFERENCE,
    MEASURED,
    stop_on_other_weights,
)
from tests.config.test_hydra import hydra  # noqa: F401 - a fixture, used by name
from tests.trainer.test_trainers import MODES, bare

NAN = float("nan")
NATIVE = "algorithm.adv_estimator=grpo"


@pytest.mark.parametrize(
    "metrics", [{}, {DIFFERENCE: NAN, MEASURED: 0}, {DIFFERENCE: 0.0}, {DIFFERENCE: 0.2}]
)
def test_what_agrees_or_was_not_measured_goes_on(metrics):
    stop_on_other_weights(metrics, 0.2)


def test_what_differs_is_named_with_figure_and_option():
    with pytest.raises(InfraError, match=r"by 0\.74 on average .*max_rollout_probs_diff=0\.2;"):
        stop_on_other_weights({DIFFERENCE: 0.74}, 0.2)


def test_probabilities_that_are_no_numbers_end_the_run():
    with pytest.raises(InfraError, match="differ by nan"):
        stop_on_other_weights({DIFFERENCE: NAN, MEASURED: 1}, 0.2)


@pytest.mark.parametrize("overrides", [(), (NATIVE,)], ids=["flow_grpo", "verl's grpo"])
@pytest.mark.parametrize("mode", MODES)
def test_every_trainer_looks_before_anything_is_trained(mode, overrides, hydra):  # noqa: F811
    trainer = bare(mode, *overrides)
    with pytest.raises(InfraError, match="other weights"):
        trainer._compute_advantage(None, {DIFFERENCE: 0.5})
    with pytest.raises(AttributeError):  # looks at the batch
        bare(mode, *overrides, "agentflow.max_rollout_probs_diff=0.6")._compute_advantage(
            None, {DIFFERENCE: 0.5}
        )
