"""The agent loop that verl instantiates per trajectory: it takes a dataset row and returns one
output per planner turn.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    AgentLoopOutput,
    ToolListWrap,
    register,
)

from agentflow_verl.engines.interface import Engine
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.question import parse_prompt
from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trainer.rollout.services import Services

# Set by FlowWorker in the task of each trajectory: verl tells no agent loop whether it validates.
validating: ContextVar[bool] = ContextVar("validating", default=False)


@register("agentflow")
class AgentflowLoop(AgentLoopBase):
    """Runs flow/loop.py with the worker's engines and tools (``Services``, handed over as verl's
    ``tools``).
    """

    def __init__(self, *args: Any, tools: ToolListWrap, **kwargs: Any):
        super().__init__(*args, **kwargs)
        wrapped: Any = tools.tools  # verl declares a list of its own tools
        self.services: Services = wrapped

    # verl declares one output; its TransferQueue worker takes a list, a row per turn.
    async def run(  # type: ignore[override]
        self, sampling_params: dict[str, Any], **row: Any
    ) -> list[AgentLoopOutput]:
        """Run one trajectory. A fault is an outcome of the trajectory, never an exception: verl
        would fail the group.
        """
        limits = self.services.config.limits
        if validating.get():
            limits = self.services.config.val_limits
        engines = self._engines(sampling_params)
        if self.rollout_config.full_determinism:
            engines = seeded(engines, self._seed_key(row))
        trained = self.services.config.train
        flow = Flow(engines, self.services.tools, limits, self.services.prompts, trained)
        query = question_of(row["raw_prompt"])
        trajectory = await flow.run(query, f"{row['uid']}_{row['session_id']}")
        tokenizer: Any = self.tokenizer
        return to_rows(
            trajectory,
            placeholder_id=tokenizer.eos_token_id,
            policy_version=max(0, int(row["global_steps"]) - 1),
            trained=trained,
        )

    def _seed_key(self, row: dict[str, Any]) -> str:
        """The same in every run with this seed; verl's uid, which is random, is not."""
        split = "train"
        if validating.get():
            split = "val"
        place = (row["global_steps"], row.get("index", 0), row["session_id"])
        return "/".join(map(str, (self.rollout_config.seed, split, *place)))

    def _engines(self, sampling_params: dict[str, Any]) -> dict[str, Engine]:
        limit = self.rollout_config.response_length
        policy = TokenEngine(
            "policy",
            self.tokenizer,
            self.server_manager.generate,
            {**sampling_params, "max_tokens": limit},
            prompt_limit=self.rollout_config.prompt_length,
            response_limit=limit,
            template_kwargs=self.apply_chat_template_kwargs,
            interruptions=self.services.interruptions,
        )
        # The policy's engine is made per trajectory: its sampling parameters are the trajectory's.
        by_name: dict[str, Engine] = {**self.services.engines, "policy": policy}
        engines = {}
        for module, name in self.services.config.engines.model_dump().items():
            engines[module] = by_name[name]
        return engines


def question_of(raw_prompt: Any) -> str:
    """The question of a dataset row as every module's prompt shows it (flow/question.py)."""
    return parse_prompt(raw_prompt).prompt_text


def seeded(engines: dict[str, Engine], key: str) -> dict[str, Engine]:
    """``engines``, with the token engines seeded by ``key``.

    verl's ``rollout.full_determinism`` alone gives every request of a server one seed: all
    trajectories of a group would be the same, and none would teach anything.
    """
    by_key = {}
    for module, engine in engines.items():
        if isinstance(engine, TokenEngine):
            engine = engine.seeded(key)
        by_key[module] = engine
    return by_key
