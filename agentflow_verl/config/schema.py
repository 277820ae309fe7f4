"""The ``agentflow:`` node as typed, frozen models. An unknown key or a bad value is one line with the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentflow_verl.engines.endpoint import EndpointConfig
from agentflow_verl.errors import ConfigError
from agentflow_verl.flow.loop import Limits
from agentflow_verl.rewards.judge import JudgeConfig
from agentflow_verl.tools.spec import ToolConfig

BUILT_IN_ENGINES = ("policy", "base")
Url = Annotated[str, Field(pattern=r"^https?://")]


class Node(BaseModel):
    """Base of the models: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EnginesNode(Node):
    """Which engine answers each module: ``policy``, ``base``, or a name of ``agentflow.endpoints``."""

    analyst: str = "base"
    planner: str = "policy"
    executor: str = "base"
    verifier: str = "base"
    generator: str = "base"


class BaseNode(Node):
    """The frozen base checkpoint."""

    replicas: int | None = Field(None, ge=1)
    """Rollout replicas of its own. None is none where the policy's servers can leave a LoRA adapter off, else one."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, ge=1)
    """Longest reply of a frozen module, in tokens."""


class EndpointNode(Node):
    """One OpenAI-compatible endpoint; see engines/endpoint.py for the meaning of each field."""

    base_url: Url
    model: str
    further_urls: tuple[Url, ...] = ()
    api_key_env: str | None = None
    concurrency: int = Field(64, ge=1)
    timeout_s: float = Field(120.0, gt=0)
    retries: int = Field(3, ge=0)
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, ge=1)
    structured: bool = False
    seed: int | None = None

    def build(self) -> EndpointConfig:
        return EndpointConfig(**self.model_dump())


class ToolNode(Node):
    """One tool server; see tools/spec.py for each field. With ``urls`` it runs elsewhere, without it is started here."""

    urls: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout_s: float = Field(30.0, gt=0)
    concurrency: int = Field(32, ge=1)
    max_result_chars: int = Field(4000, ge=100)
    token_env: str | None = None
    calls_per_s: float | None = Field(None, gt=0)
    cache_dir: str | None = None
    pure: bool | None = None

    def build(self, name: str) -> ToolConfig:
        return ToolConfig(name=name, **self.model_dump())


class JudgeNode(Node):
    """An LLM judge beside the rules; see rewards/judge.py. ``endpoint`` is a name of ``agentflow.endpoints``."""

    mode: Literal["rules", "fallback", "alone"] = "rules"
    endpoint: str | None = None
    cache_dir: str | None = None
    timeout_s: float = Field(300.0, gt=0)
    """For one verdict, in seconds, retries and waiting included."""


class FlowGRPONode(Node):
    """Options of the algorithm, field by field those of ``FlowGRPO`` in flow_grpo/algorithm.py, which needs torch."""

    statistic: Literal["trajectory", "turn"] = "trajectory"
    std: bool = True
    leave_one_out: bool = False
    trajectory_weight: bool = True
    keep_zero_variance: bool = True
    min_group: int = Field(2, ge=2)
    eps: float = Field(1e-6, gt=0)


class AgentflowConfig(Node):
    """Everything under ``agentflow:``."""

    max_turns: int = Field(3, ge=1)
    time_budget_s: float = Field(300.0, gt=0)
    """Wall clock of one trajectory, in seconds."""
    memory_tokens: int = Field(2048, ge=64)
    """What earlier turns may take of a prompt, in tokens."""
    max_fault_rate: float = Field(0.5, ge=0, le=1)
    """Share of a batch's trajectories that may end in an infrastructure fault; above it the run stops."""
    engines: EnginesNode = EnginesNode()
    base: BaseNode = BaseNode()
    endpoints: dict[str, EndpointNode] = {}
    tools: dict[str, ToolNode] = {}
    judge: JudgeNode = JudgeNode()
    flow_grpo: FlowGRPONode = FlowGRPONode()
    trajectory_dir: str | None = None
    """Folder for the trajectories, one JSON line each; None writes none."""

    def limits(self) -> Limits:
        return Limits(self.max_turns, self.time_budget_s, self.memory_tokens)

    def judge_config(self) -> JudgeConfig | None:
        """The judge, or None where the rules are alone."""
        if self.judge.mode == "rules":
            return None
        endpoint = self.endpoints[self.judge.endpoint].build()
        return JudgeConfig(endpoint, self.judge.mode, self.judge.cache_dir, self.judge.timeout_s)

    @property
    def needs_base(self) -> bool:
        """Whether any module is answered by the frozen base checkpoint."""
        return "base" in self.engines.model_dump().values()


def load(node: Mapping[str, Any]) -> AgentflowConfig:
    """Validate a plain ``agentflow`` mapping. Raises ConfigError for the first thing that is wrong."""
    try:
        config = AgentflowConfig.model_validate(dict(node))
    except ValidationError as wrong:
        raise ConfigError(_explain(wrong)) from None
    for module, engine in config.engines.model_dump().items():
        known = (*BUILT_IN_ENGINES, *config.endpoints)
        if engine not in known:
            raise ConfigError(f"agentflow.engines.{module}: no engine is called {engine!r}{_nearest(engine, known)}")
    for name, endpoint in config.endpoints.items():
        urls = (endpoint.base_url, *endpoint.further_urls)
        if len(set(urls)) < len(urls):
            raise ConfigError(f"agentflow.endpoints.{name}.further_urls: a URL is listed twice")
        if name in BUILT_IN_ENGINES:
            raise ConfigError(f"agentflow.endpoints.{name}: the name is taken by a built-in engine; choose another")
    judge = config.judge
    if judge.mode != "rules" and judge.endpoint not in config.endpoints:
        advice = _nearest(judge.endpoint or "", tuple(config.endpoints)) if config.endpoints else "; agentflow.endpoints is empty"
        raise ConfigError(f"agentflow.judge.endpoint: no endpoint is called {judge.endpoint!r}{advice}")
    if not config.tools:
        raise ConfigError("agentflow.tools is empty: list at least one tool server")
    for name, tool in config.tools.items():
        tool.build(name)  # ToolConfig checks more: names, URLs, what excludes what
    return config


def _explain(wrong: ValidationError) -> str:
    error = wrong.errors()[0]
    where = ".".join(("agentflow", *(str(part) for part in error["loc"])))
    if error["type"] == "extra_forbidden":
        names = _fields_at(error["loc"][:-1])
        return f"{where}: unknown key{_nearest(str(error['loc'][-1]), names)}"
    return f"{where}: {error['msg']}, got {error['input']!r}"


def _fields_at(path: tuple[int | str, ...]) -> tuple[str, ...]:
    """The field names of the model at ``path``; dictionaries of models are stepped through by any key."""
    model: Any = AgentflowConfig
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields[str(part)].annotation
            arguments = getattr(annotation, "__args__", ())
            model = arguments[1] if len(arguments) == 2 else annotation
            if arguments:
                model = _Values(model)
        elif isinstance(model, _Values):
            model = model.model
    return tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()


class _Values:
    """A dictionary whose values are ``model``."""

    def __init__(self, model: Any):
        self.model = model


def _nearest(name: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; the names are {', '.join(names)}"
