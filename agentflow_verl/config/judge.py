"""An LLM judge beside the rules: ``agentflow.judge``."""

from __future__ import annotations

from typing import Literal

from agentflow_verl.config.base import ConfigModel, Seconds


class JudgeConfig(ConfigModel):
    """When a judge is asked, and which endpoint answers as one."""

    mode: Literal["rules", "fallback", "alone"] = "rules"
    """``rules`` asks no judge, ``fallback`` only where the rule says no, ``alone`` for every
    answer.
    """
    endpoint: str | None = None
    """A name of ``agentflow.endpoints``."""
    cache_dir: str | None = None
    """Keeps verdicts between runs, shared by processes. None keeps them in memory only."""
    timeout_s: Seconds = 300.0
    """For one verdict in seconds, retries and waiting for a free slot included."""
