"""What runs elsewhere answers before anything is started: tool servers with URLs, endpoints that
are asked in training.
"""

from __future__ import annotations

import asyncio

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, OutOfTime
from agentflow_verl.core.http_session import new_session
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.tools.toolbox import ToolBox

REPLY_S = 30.0


def check_reach(settings: AgentflowConfig) -> None:
    """Raises ConfigError, naming the server or endpoint and what was wrong."""
    asyncio.run(_ask_all(settings))


def endpoints_used(settings: AgentflowConfig) -> list[str]:
    asked = set(settings.engines.model_dump().values())
    if settings.judge.mode != "rules":
        asked.add(settings.judge.endpoint)
    return sorted(name for name in settings.endpoints if name in asked)


async def ask_endpoint(settings: AgentflowConfig, name: str) -> str:
    """One short reply. Raises ConfigError."""
    async with new_session() as session:
        engine = EndpointEngine(name, settings.endpoints[name], session)
        message = {"role": "user", "content": "Say OK."}
        try:
            return (
                await engine.reply([message], trajectory="check", deadline=Deadline.after(REPLY_S))
            ).text
        except (InfraError, OutOfTime) as error:
            raise ConfigError(f"agentflow.endpoints.{name} does not answer: {error}") from error


async def _ask_all(settings: AgentflowConfig) -> None:
    async with await ToolBox.open([tool for tool in settings.tools.values() if tool.urls]):
        for name in endpoints_used(settings):
            await ask_endpoint(settings, name)
