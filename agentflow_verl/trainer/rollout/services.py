"""What all trajectories of one worker process share: engines other than the policy, the tools, the
trajectory log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core import gc_tuning
from agentflow_verl.core.http_session import new_session
from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.core.private_files import parse_umask
from agentflow_verl.engines.interface import Engine
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.engines.shared_calls import GreedyEngine, SharedCalls
from agentflow_verl.engines.token_engine import Generate, TokenEngine
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trainer.rollout.frozen_base import context_length
from agentflow_verl.trainer.rollout.structured import schema_sampling
from agentflow_verl.trajectories.log import TrajectoryLog
from agentflow_verl.trajectories.manifest import Setup, absolute

RESTART_S = 60.0
"""For a tool server that died since the run's start to be there again. What was never there, the
run's checks have named.
"""


class Services:
    """Open once in a worker's event loop, used by every trajectory in it."""

    def __init__(
        self,
        config: AgentflowConfig,
        engines: Mapping[str, Engine],
        tools: ToolBox,
        log: TrajectoryLog | None,
        interruptions: Interruptions | None = None,
        prompts: Prompts | None = None,
    ):
        self.config = config
        self.engines = engines
        self.tools = tools
        self.log = log
        self.interruptions = interruptions or Interruptions()
        self.prompts = prompts or Prompts.shipped()

    @classmethod
    async def open(
        cls,
        config: AgentflowConfig,
        tool_urls: Mapping[str, tuple[str, ...]],
        base: Generate,
        tokenizer: Any,
        rollout_config: Any,
        template_kwargs: Mapping[str, Any],
        interruptions: Interruptions | None = None,
        base_is_policys: bool = False,
        tool_token: SecretStr | None = None,
    ) -> Services:
        """Connect to everything that the manager started, and to what runs elsewhere.

        Args:
            tool_urls: URLs of the embedded tool servers, by name.
            base: asks the frozen base; not asked where no module is answered by it.
            interruptions: of the policy's servers, by the trainer.
            base_is_policys: whether the policy's servers answer as the base, too.
            tool_token: what the embedded tool servers demand of a run on several nodes.
        """
        prompts = Prompts.from_folder(config.prompts)
        tool_configs = []
        for name, tool in config.tools.items():
            if name in tool_urls:
                tool = tool.running_at(tool_urls[name], tool_token)
            tool_configs.append(tool)
        tools = await ToolBox.open(tool_configs, patience_s=RESTART_S)
        engines: dict[str, Engine] = {}
        greedy: dict[str, GreedyEngine] = {}
        prompt_limits = {"policy": rollout_config.prompt_length}
        if config.needs_base:
            context = context_length(rollout_config, config.base.max_tokens)
            prompt_limits["base"] = max(context - config.base.max_tokens, context // 2)
            greedy["base"] = TokenEngine(
                "base",
                tokenizer,
                base,
                {
                    "temperature": config.base.temperature,
                    "top_p": 1.0,
                    "top_k": -1,
                    "max_tokens": config.base.max_tokens,
                },
                prompt_limit=prompt_limits["base"],
                response_limit=config.base.max_tokens,
                template_kwargs=template_kwargs,
                interruptions=interruptions if base_is_policys else None,
                schema_sampling=schema_sampling(rollout_config) if config.base.structured else None,
            )
        if config.endpoints:
            session = new_session()
            for name, endpoint in config.endpoints.items():
                greedy[name] = EndpointEngine(name, endpoint, session)
        for name, engine in greedy.items():
            engines[name] = engine
            if config.share_calls and engine.is_greedy:
                held_up = interruptions if name == "base" and base_is_policys else None
                engines[name] = SharedCalls(engine, held_up)
        log = None
        if config.trajectory_dir:
            umask = parse_umask(config.umask)
            log = TrajectoryLog(Path(config.trajectory_dir), umask)
            setup = Setup(
                limits=config.limits,
                tools=tools.specs,
                prompt_limits=prompt_limits,
                template=dict(template_kwargs),
                tokenizer=tokenizer.name_or_path,
                prompts=absolute(config.prompts),
                prompts_digest=prompts.digest,
            )
            setup.save(log.folder, umask)
            # A replay takes the setup nearest to the trajectory's file.
            setup.model_copy(update={"limits": config.val_limits}).save(log.folder / "val", umask)
        gc_tuning.settle()
        return cls(config, engines, tools, log, interruptions, prompts)
