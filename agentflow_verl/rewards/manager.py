"""verl's reward manager for trajectories: reads the typed record, never the last row's text.

Chosen by ``reward.reward_manager`` in the agentflow config. A ``reward.custom_reward_function`` replaces the rules
with the user's own, called with verl's usual arguments and the answer as ``solution_str``.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from agentflow_verl.flow.records import Trajectory
from agentflow_verl.rewards.compute import compute_score as score_by_rule
from agentflow_verl.trainer.rows import RECORD

logger = logging.getLogger(__name__)


class FlowRewardManager(RewardManagerBase):
    """Scores a trajectory's answer. ``scored`` is 0 where there is no reward: the trajectory is then masked."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, reward_router_address: Any = None, reward_model_tokenizer: Any = None):
        super().__init__(config, tokenizer, compute_score)
        custom = config.reward.custom_reward_function.path is not None
        self.score = compute_score if custom else score_by_rule

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """One trajectory, of which ``data`` holds all rows. A scorer that raises is a fault, not a reward of 0."""
        row = data[-1].non_tensor_batch
        trajectory: Trajectory = row["tool_extra_fields"][RECORD]
        if not trajectory.outcome.valid:
            return _unscored()
        try:
            result = self._call(row, trajectory)
            if inspect.isawaitable(result):
                result = await result
        except Exception:
            logger.exception("the scorer failed on trajectory %s; it leaves the loss", trajectory.id)
            return _unscored()
        info = dict(result) if isinstance(result, dict) else {"score": float(result)}
        reward = float(info.pop("score"))
        info.pop("acc", None)  # verl counts a trajectory that is missing in a validation as acc 0
        return {"reward_score": reward, "reward_extra_info": {**info, "success": float(reward >= 1.0), "scored": 1.0}}

    def _call(self, row: dict[str, Any], trajectory: Trajectory) -> Any:
        extra = {**(row.get("extra_info") or {}), "question": trajectory.query, "trajectory": trajectory}
        return self.score(
            data_source=row["data_source"],
            solution_str=f"<answer>{trajectory.answer}</answer>",
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=extra,
        )


def _unscored() -> dict[str, Any]:
    return {"reward_score": 0.0, "reward_extra_info": {"success": 0.0, "scored": 0.0}}
