"""The ``agentflow:`` node as one typed, frozen model: the only place where a default stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, StrictBool, field_validator

from agentflow_verl.config.base import ConfigModel, Count, Seconds, Temperature, nearest, validate
from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.flow_grpo import FlowGRPO
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.config.limits import Limits, ValidationLimits
from agentflow_verl.config.mcp_servers import read_mcp_servers
from agentflow_verl.config.reward import RewardConfig
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.config.trained_modules import Module, TrainWeights, check_trained
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import parse_umask

BUILT_IN_ENGINES = ("policy", "base")


class EnginesConfig(ConfigModel):
    """Which engine answers each module: ``policy``, ``base`` or one of ``agentflow.endpoints``."""

    analyst: str = "base"
    planner: str = "policy"
    executor: str = "base"
    verifier: str = "base"
    generator: str = "base"


class FrozenBaseConfig(ConfigModel):
    """The frozen base checkpoint."""

    replicas: Count | None = None
    """Rollout servers of its own. None is none where the policy's servers can leave a LoRA adapter
    off, else one.
    """
    temperature: Temperature = 0.0
    max_tokens: Count = 1024
    """Longest reply of a frozen module, in tokens."""
    structured: bool = True
    """Hold the replies of frozen modules to a JSON schema. False for prompts that ask for another
    format than the shipped ones.
    """


class AgentflowConfig(Limits):
    """Everything under ``agentflow:``; the limits of a trajectory stand at its top level."""

    max_fault_rate: float = Field(0.5, ge=0, le=1)
    """Share of a batch's trajectories that may end in an infrastructure fault; above it the run
    stops.
    """
    max_rollout_probs_diff: float = Field(0.2, gt=0, le=1)
    """How far the probabilities of sampled tokens in rollout engine and actor may differ on average
    over a batch; above it the engine samples from other weights, and the run stops.
    """
    server_timeout_s: Seconds = 600.0
    """Longest that the policy's rollout servers may take to sleep, wake up, abort their requests or
    take new weights, and an agent-loop worker to answer, in seconds; above it the run stops.
    """
    engines: EnginesConfig = EnginesConfig()
    train: tuple[Module, ...] = ("planner",)
    """Modules whose tokens are trained; each is answered by ``policy``."""
    train_weights: TrainWeights = TrainWeights()
    base: FrozenBaseConfig = FrozenBaseConfig()
    endpoints: dict[str, EndpointConfig] = {}
    prompts: str | None = None
    """A folder whose files ``MODULE.md`` replace the shipped prompt templates of these modules, on
    every node that runs trajectories. ``agentflow prompts DIR`` writes the shipped ones.
    """
    tools: dict[str, ToolConfig] = {}
    mcp_servers: str | None = None
    """A JSON file with further tool servers under ``mcpServers``, as MCP's desktop clients have it;
    those of ``tools`` with the same name go first.
    """
    judge: JudgeConfig = JudgeConfig()
    reward: RewardConfig = RewardConfig()
    flow_grpo: FlowGRPO = FlowGRPO()
    val: ValidationLimits = ValidationLimits()
    """Limits of their own for the trajectories of a validation."""
    shared_prefix: StrictBool | Literal["auto"] = "auto"
    """Compute what the rows of a batch begin with in common once, in log-probabilities and update.
    ``auto``: where the model and the engine can; true: or the run does not start; false: never.
    """
    share_calls: bool = True
    """Ask a frozen engine whose temperature is 0 once for equal prompts of a worker's trajectories.
    """
    log_level: Literal["WARNING", "INFO"] = "WARNING"
    """WARNING: the terminal shows steps and warnings; what verl, vLLM and Ray print goes to
    ``run.log`` in ``trainer.default_local_dir``. INFO: it shows everything.
    """
    trajectory_dir: str | None = None
    """Folder for the trajectories, one JSON line each; None writes none."""
    umask: str = "077"
    """Of the files and folders made there, three octal digits; "022" lets everybody read them."""

    @field_validator("tools", mode="before")
    @classmethod
    def _name_tools(cls, tools: Any) -> Any:
        """A server's name is its key."""
        if not isinstance(tools, Mapping):
            return tools
        named = {}
        for name, node in tools.items():
            if isinstance(node, Mapping):
                node = {**node, "name": name}
            named[name] = node  # what is no mapping is refused by ToolConfig, with its place
        return named

    @field_validator("umask")
    @classmethod
    def _check_umask(cls, umask: str) -> str:
        parse_umask(umask)
        return umask

    @property
    def limits(self) -> Limits:
        """The limits alone."""
        return Limits(**{name: getattr(self, name) for name in Limits.model_fields})

    @property
    def val_limits(self) -> Limits:
        """The limits of a validation's trajectories."""
        return self.val.over(self.limits)

    @property
    def judge_endpoint(self) -> EndpointConfig | None:
        """Who answers as the judge, or None where the rules are alone."""
        if self.judge.mode == "rules" or self.judge.endpoint is None:
            return None
        return self.endpoints[self.judge.endpoint]

    @property
    def needs_base(self) -> bool:
        """Whether any module is answered by the frozen base checkpoint."""
        return "base" in self.engines.model_dump().values()


def _with_mcp_servers(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with the servers of its ``mcp_servers`` file among its tools."""
    whole = dict(node)
    path, tools = whole.get("mcp_servers"), whole.get("tools") or {}
    if isinstance(path, str) and isinstance(tools, Mapping):
        # The configuration's own tools overrule servers of the same name in the file.
        whole["tools"] = {**read_mcp_servers(path), **tools}
    return whole


def load(node: Mapping[str, Any]) -> AgentflowConfig:
    """Validate an ``agentflow`` mapping. Raises ConfigError for the first thing that is wrong."""
    config = validate(AgentflowConfig, _with_mcp_servers(node), "agentflow")
    known = (*BUILT_IN_ENGINES, *config.endpoints)
    for module, engine in config.engines.model_dump().items():
        if engine not in known:
            raise ConfigError(
                f"agentflow.engines.{module}: no engine is called"
                f" {engine!r}{nearest(engine, known)}"
            )
    for name in config.endpoints:
        if name in BUILT_IN_ENGINES:
            raise ConfigError(
                f"agentflow.endpoints.{name}: the name is taken by a built-in engine; choose"
                " another"
            )
    _check_judge(config)
    check_trained(config.train, config.train_weights)
    if not config.tools:
        raise ConfigError("agentflow.tools is empty: list at least one tool server")
    return config


def _check_judge(config: AgentflowConfig) -> None:
    judge = config.judge
    if judge.mode == "rules" or judge.endpoint in config.endpoints:
        return
    advice = "; agentflow.endpoints is empty"
    if config.endpoints:
        advice = nearest(judge.endpoint or "", config.endpoints)
    raise ConfigError(f"agentflow.judge.endpoint: no endpoint is called {judge.endpoint!r}{advice}")
