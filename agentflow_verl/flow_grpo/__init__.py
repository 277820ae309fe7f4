"""The algorithm: pure tensor functions, nothing else. Read algorithm.py top to bottom."""

from agentflow_verl.flow_grpo.algorithm import FlowGRPO, advantages, objective, weights

__all__ = ["FlowGRPO", "advantages", "objective", "weights"]
