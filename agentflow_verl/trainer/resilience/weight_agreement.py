"""A run ends where its rollout engine samples from other weights than the actor's.

An engine may fail to take over some weights of an architecture (seen with mixtures of experts) and
go on sampling: every ratio and every reward is then about another model. verl measures how far the
probabilities of sampled tokens are apart, once per batch; this only reads the figure. verl measures
nothing with ``rollout.calculate_log_probs=false``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow_verl.core.errors import InfraError

DIFFERENCE = "training/rollout_probs_diff_mean"
"""verl's metric: mean over trained tokens of |p_rollout - p_actor|."""
MEASURED = "training/rollout_probs_diff_valid"
"""verl's metric: 0 where no token of the batch is trained."""


def stop_on_other_weights(metrics: Mapping[str, Any], limit: float) -> None:
    """Raises InfraError where the difference is above ``limit``
    (``agentflow.max_rollout_probs_diff``) or no number. Nothing was measured without rollout
    probabilities or trained tokens.
    """
    difference = metrics.get(DIFFERENCE)
    if difference is None or metrics.get(MEASURED) == 0 or difference <= limit:
        return
    raise InfraError(
        f"the rollout servers sample from other weights than the actor's: the probabilities of"
        f" sampled tokens differ by {difference:.2f} on average ({DIFFERENCE}), more than"
        f" agentflow.max_rollout_probs_diff={limit:g}; the engine may not take over this"
        " architecture's weights: try another rollout engine or version, or raise the limit if the"
        " weights are meant to be this old"
    )
