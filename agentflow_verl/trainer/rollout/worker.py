"""One Ray actor that runs many trajectories as coroutines, over one set of engines and tools."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import SecretStr
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.trainer.actor_class import wrapped_class
from agentflow_verl.trainer.rollout.agent_loop import validating
from agentflow_verl.trainer.rollout.frozen_base import abort_when_cancelled, base_generate
from agentflow_verl.trainer.rollout.row_record import FIELD, row_records
from agentflow_verl.trainer.rollout.rows import RECORD
from agentflow_verl.trainer.rollout.services import Services
from agentflow_verl.trainer.rollout.worker_settings import WorkerSettings, resolve_node
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Trajectory

_WorkerTQ: Any = wrapped_class(AgentLoopWorkerTQ)


class FlowWorker(_WorkerTQ):
    """verl's worker with ``Services`` in place of its tools, and a log of scored trajectories."""

    tools: Any
    """verl's own tools until the first batch, then ``Services``."""

    def __init__(self, config: Any, llm_client: Any, *args: Any, **kwargs: Any):
        # The client is replaced before any agent loop gets it.
        super().__init__(config, abort_when_cancelled(llm_client), *args, **kwargs)
        self.interruptions = Interruptions()
        self._tool_token: SecretStr | None = None

    async def set_tool_token(self, token: SecretStr) -> None:
        """The embedded tool servers of a run on several nodes demand it (reach.py)."""
        self._tool_token = token

    async def suspend_generation(self) -> None:
        """The trainer is about to abort what the policy's servers generate."""
        self.interruptions.suspend()

    async def resume_generation(self) -> None:
        """The policy's servers generate again, with the updated weights."""
        self.interruptions.resume()

    async def generate_sequences(self, batch: Any) -> None:
        # Not in __init__, which has no running event loop: HTTP sessions and the tools' connections
        # belong to the loop in which the trajectories run.
        if not isinstance(self.tools, Services):
            settings = WorkerSettings.from_config(self.config)
            template_kwargs = self.config.data.get("apply_chat_template_kwargs")
            self.tools = await Services.open(
                settings.agentflow,
                settings.tool_urls,
                base_generate(settings.base_servers, self.llm_client),
                self.tokenizer,
                self.rollout_config,
                resolve_node(template_kwargs) if template_kwargs else {},
                self.interruptions,
                base_is_policys=not settings.base_servers,
                tool_token=self._tool_token,
            )
        await super().generate_sequences(batch)

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], **row: Any
    ) -> Any:
        """verl's method, which knows whether it validates but does not tell the agent loop."""
        # Each trajectory runs in a task of its own, so the variable is set for this one only.
        validating.set(trajectory["validate"])
        return await super()._run_agent_loop(sampling_params, trajectory, **row)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **row: Any) -> None:
        """Put rows into TransferQueue. In validation, a trajectory that ended in a fault is only
        logged: verl would score it 0.
        """
        split: Literal["train", "val"] = "train"
        if validate:
            split = "val"
        set_records(output, output[-1].extra_fields[RECORD], split)
        if validate:
            # Here and not in verl's method alone, since a fault is logged and not put. RECORD is
            # gone afterwards, so verl's own call scores nothing twice.
            await self._compute_score(output, row)
        if not validate or output[-1].extra_fields[FIELD].valid:
            await super()._agent_loop_postprocess(output, validate, **row)

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        """Let the reward worker score the trajectory once, for all its rows, and log it."""
        if RECORD in outputs[-1].extra_fields:
            await super()._compute_score(outputs, kwargs)
            await self._log(outputs, kwargs)

    async def _log(self, outputs: list[AgentLoopOutput], row: dict[str, Any]) -> None:
        last = outputs[-1]
        scores = last.extra_fields.get("reward_extra_info", {})
        trajectory = after_scoring(last.extra_fields.pop(RECORD), scores)
        set_records(outputs, trajectory, last.extra_fields[FIELD].split)
        if self.tools.log is None:
            return
        reward = None
        if trajectory.outcome.valid:
            reward = last.reward_score
        scored = ScoredTrajectory(
            step=int(row["global_steps"]),
            split=last.extra_fields[FIELD].split,
            group=str(row["uid"]),
            session=int(row["session_id"]),
            data_source=str(row.get("data_source", "")),
            ground_truth=_plain(row.get("reward_model", {}).get("ground_truth")),
            reward=reward,
            scores=_plain(scores),
            trajectory=trajectory,
        )
        # In a thread: a disk may be slow, and the event loop has other trajectories to serve.
        await asyncio.to_thread(self.tools.log.write, scored)


def set_records(
    outputs: list[AgentLoopOutput], trajectory: Trajectory, split: Literal["train", "val"]
) -> None:
    """Say on every row of the trajectory how it ended."""
    modules = [output.extra_fields[FIELD].module for output in outputs]
    for output, record in zip(outputs, row_records(trajectory, modules, split)):
        output.extra_fields[FIELD] = record


def after_scoring(trajectory: Trajectory, scores: dict[str, Any]) -> Trajectory:
    """A trajectory whose scorer failed, such as a judge that cannot be reached, ends as any other
    fault does.
    """
    if not trajectory.outcome.valid or scores.get("scored", 1.0) > 0:
        return trajectory
    return trajectory.unscored(scores.get("reason", "it gives no reason"))


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as plain Python, for JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
