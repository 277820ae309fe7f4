"""Which modules are trained, and what each weighs: ``agentflow.train`` and
``agentflow.train_weights``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from agentflow_verl.config.base import ConfigModel
from agentflow_verl.core.errors import ConfigError

Module = Literal["analyst", "planner", "executor", "verifier", "generator"]
Weight = Annotated[float, Field(gt=0, le=1000, strict=True)]


class TrainWeights(ConfigModel):
    """What each trained module weighs in a trajectory's loss, relative to the others."""

    analyst: Weight = 1.0
    planner: Weight = 1.0
    executor: Weight = 1.0
    verifier: Weight = 1.0
    generator: Weight = 1.0


def module_weights(train: Iterable[str], train_weights: Mapping[str, float]) -> dict[str, float]:
    """Each trained module's share of a trajectory's loss; they sum to 1."""
    weights = {module: train_weights[module] for module in train}
    total = sum(weights.values())
    return {module: weight / total for module, weight in weights.items()}


def check_trained(train: Sequence[str], train_weights: TrainWeights) -> None:
    """Raises ConfigError: modules named twice or none, or a weight of one that is not trained."""
    if not train or len(set(train)) < len(train):
        raise ConfigError(
            f"agentflow.train={list(train)}: name each module that is trained once, at least one"
        )
    for module, weight in train_weights.model_dump().items():
        if weight != 1.0 and module not in train:
            raise ConfigError(
                f"agentflow.train_weights.{module}={weight}: {module} is not in agentflow.train"
            )
