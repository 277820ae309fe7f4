"""The reward manager for trajectories: scores the typed record, not the text of the last row.

Chosen by ``reward.reward_manager`` in the agentflow config. The rules decide, with a judge where
``agentflow.judge`` names one. A ``reward.custom_reward_function`` replaces both with the user's
own, called with verl's usual arguments and the answer as ``solution_str``.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from agentflow_verl.config import schema
from agentflow_verl.config.reward import RewardConfig
from agentflow_verl.core.http_session import new_session
from agentflow_verl.flow.question import parse_row
from agentflow_verl.rewards.judge.client import Judge, score_with_judge
from agentflow_verl.trainer.rollout.rows import RECORD
from agentflow_verl.trainer.rollout.worker_settings import resolve_node
from agentflow_verl.trajectories.records import Trajectory

logger = logging.getLogger(__name__)

PROMPT = "raw_prompt"  # where verl's data set puts the row's prompt


class FlowRewardManager(RewardManagerBase):
    """Scores a trajectory's answer. ``scored`` is 0 where there is no reward; the trajectory is
    then masked.
    """

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: Any = None,
        reward_model_tokenizer: Any = None,
    ):
        super().__init__(config, tokenizer, compute_score)
        self.custom: Any = None
        # Without a path verl hands over its own default, which knows none of our data sources.
        if config.reward.custom_reward_function.path is not None:
            self.custom = compute_score
        self.settings: schema.AgentflowConfig | None = None
        self.reward = RewardConfig()
        if "agentflow" in config:
            self.settings = schema.load(resolve_node(config.agentflow))
            self.reward = self.settings.reward
        self.judge: Judge | None = None

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """One trajectory, of which ``data`` holds all rows. A scorer that raises is a fault, not a
        reward of 0.
        """
        # verl calls this with all rows of one session; the record stands on the last.
        row = data[-1].non_tensor_batch
        trajectory: Trajectory = row["tool_extra_fields"][RECORD]
        if not trajectory.outcome.valid:
            return _unscored()
        try:
            info = await self._score(row, trajectory)
        except Exception as fault:
            # Any exception, since the function may be a user's.
            logger.exception(
                "the scorer failed on trajectory %s; it leaves the loss", trajectory.id
            )
            return _unscored(reason=f"{type(fault).__name__}: {fault}")
        reward = float(info.pop("score"))
        info.pop("acc", None)  # verl counts a trajectory that is missing in a validation as acc 0
        return {
            "reward_score": reward,
            "reward_extra_info": {**info, "success": float(reward >= 1.0), "scored": 1.0},
        }

    async def _score(self, row: dict[str, Any], trajectory: Trajectory) -> dict[str, Any]:
        asked = {**row, PROMPT: row.get(PROMPT, trajectory.query)}
        parsed = parse_row(asked, PROMPT)
        source, truth, extra = parsed.data_source, parsed.gold, parsed.scorer_extra
        if self.custom is None:
            score, details = await score_with_judge(
                self._open_judge(),
                source,
                trajectory.answer,
                truth,
                extra,
                qa_match=self.reward.qa_match,
            )
            return {"score": score.value, **details}
        extra["trajectory"] = trajectory
        result = self.custom(
            data_source=source, solution_str=trajectory.answer, ground_truth=truth, extra_info=extra
        )
        if inspect.isawaitable(result):
            result = await result
        return checked_result(result)

    def _open_judge(self) -> Judge | None:
        """The judge, where the configuration has one."""
        if self.judge is not None or self.settings is None:
            return self.judge
        endpoint = self.settings.judge_endpoint
        if endpoint is not None:
            # Opened on first use, because its HTTP session belongs to the running event loop.
            self.judge = Judge(self.settings.judge, endpoint, new_session())
        return self.judge


def checked_result(result: Any) -> dict[str, Any]:
    """What a user's reward function returned, as a dict whose ``score`` is a finite float.

    Raises:
        TypeError, ValueError: it is neither a number nor a dict with one; such a value is a fault
            of the function and never a reward.
    """
    found = {"score": result}
    if isinstance(result, Mapping):
        found = dict(result)
    if "score" not in found:
        raise ValueError(f"the reward function returned a dict without 'score': {sorted(found)}")
    value = found["score"]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    if not isinstance(value, (bool, int, float)):
        raise TypeError(
            f"the reward function returned {str(value)[:80]!r} ({type(value).__name__}): return a"
            " number, or a dict with a number under 'score'"
        )
    if not math.isfinite(value):
        raise ValueError(f"the reward function returned {value}: a reward is a finite number")
    return {**found, "score": float(value)}


def _unscored(**said: str) -> dict[str, Any]:
    return {"reward_score": 0.0, "reward_extra_info": {"success": 0.0, "scored": 0.0, **said}}
