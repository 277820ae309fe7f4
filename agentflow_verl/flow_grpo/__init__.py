"""The algorithm: pure tensor functions, nothing else. Read algorithm.py top to bottom."""

from agentflow_verl.config.flow_grpo import FlowGRPO
from agentflow_verl.flow_grpo.algorithm import (
    advantages,
    objective,
    per_token,
    trajectory_importance,
    weights,
)

__all__ = ["FlowGRPO", "advantages", "objective", "per_token", "trajectory_importance", "weights"]
