"""The settings of an evaluation: command line and configuration file as one validated record.

The configuration is the same ``agentflow:`` node that training reads, so the file that Hydra wrote
for a training run (``hydra/.hydra/config.yaml``) evaluates with that run's tools and limits. Here
``policy`` is the planner that is measured and ``base`` the frozen model; both are served by an
endpoint, or by a server that is started.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentflow_verl.config import schema
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines.model_folder import check_architecture, check_model_folder
from agentflow_verl.flow.prompts import Prompts

PAPER_TURNS = 10  # the paper evaluates with 10 turns and trains with 3
PAPER_TEMPERATURE = 0.7  # its planner's, when evaluating
JUDGE = "judge"  # its endpoint's name where the command line gives it
# Of a training run's node.
NOT_READ = (
    "flow_grpo",
    "log_level",
    "max_fault_rate",
    "max_rollout_probs_diff",
    "server_timeout_s",
    "share_calls",
    "shared_prefix",
    "train",
    "train_weights",
    "trajectory_dir",
    "umask",
)
NOT_RECORDED = (*NOT_READ, "val")  # whose limits are taken, and stand with the others


@dataclass(frozen=True)
class Source:
    """Where a model is: a folder (or hub name) to serve, or an endpoint. ``model`` is its name
    there, if known.
    """

    place: str
    model: str | None = None

    @property
    def is_url(self) -> bool:
        return self.place.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Settings:
    """The settings of one run. ``prices`` are dollars per million prompt and response tokens, by
    engine.
    """

    config: schema.AgentflowConfig
    sources: Mapping[str, Source]  # of the engines "policy" and "base", where modules use them
    seed: int
    temperature: float
    server_args: tuple[str, ...]
    api_key_env: str | None
    prices: Mapping[str, tuple[float, float]]
    response_limit: int | None = None  # tokens of a reply of "policy", where it has its own
    concurrency: int = 1  # trajectories at once, which a vLLM server started here has room for
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompts: Prompts = field(default_factory=Prompts.shipped)

    @classmethod
    def from_args(cls, args: Namespace) -> Settings:
        """Settings of a parsed command line (cli/options.py). Raises ConfigError for the first
        thing that is wrong.
        """
        run = RunConfig()
        if args.config is not None:
            run = read_config(args.config)
        node, template_kwargs = run.node, run.template_kwargs
        if args.chat_template_kwargs is not None:
            template_kwargs = parse_template_kwargs(args.chat_template_kwargs)
        if args.tool:
            node["tools"] = dict(tool_node(text) for text in args.tool)
        node.setdefault("tools", {"python_coder": {}})
        node.setdefault("max_turns", PAPER_TURNS)
        limits = {
            "max_turns": args.max_turns,
            "time_budget_s": args.time_budget,
            "memory_tokens": args.memory_tokens,
        }
        # An option that was not given must not replace what the file says.
        node.update((key, value) for key, value in limits.items() if value is not None)
        if args.max_tokens is not None:
            node["base"] = {**node.get("base", {}), "max_tokens": args.max_tokens}
        if args.prompts is not None:
            node["prompts"] = str(args.prompts)
        if args.judge is not None:
            node["endpoints"] = {**node.get("endpoints", {}), JUDGE: judge_endpoint(args)}
            node["judge"] = {**node.get("judge", {}), "endpoint": JUDGE, "mode": args.judge_mode}
        config = schema.load(node)
        for name, value in config.val.model_dump(exclude_none=True).items():
            if limits[name] is None:  # an evaluation is a validation, unless it says otherwise
                config = config.model_copy(update={name: value})
        return cls(
            config=config,
            sources=sources(args, set(config.engines.model_dump().values())),
            seed=args.seed,
            temperature=args.temperature,
            response_limit=None if args.max_tokens is not None else run.response_limit,
            server_args=tuple(shlex.split(args.server_args)),
            api_key_env=args.api_key_env,
            prices=dict(price(text) for text in args.price),
            concurrency=args.concurrency,
            chat_template_kwargs=template_kwargs,
            prompts=Prompts.from_folder(
                config.prompts, "--prompts" if args.prompts is not None else "agentflow.prompts"
            ),
        )

    def recorded(self) -> dict[str, Any]:
        """What a report's header records, and what may not change when a run is resumed."""
        node = self.config.model_dump(mode="json", exclude=set(NOT_RECORDED))
        # Only where there are any, so that runs from before these options can be resumed.
        of_run: dict[str, Any] = {}
        if self.chat_template_kwargs:
            of_run["chat_template_kwargs"] = dict(self.chat_template_kwargs)
        if self.response_limit is not None:
            of_run["planner_max_tokens"] = self.response_limit
        others = self.config.engines.model_dump(exclude={"planner"}).values()
        if "policy" in others:
            of_run["policy_schema"] = False
        models = {}
        for name, source in self.sources.items():
            models[name] = {"place": source.place, "model": source.model}
        return {
            "agentflow": node,
            "prompts": self.prompts.digest,
            **of_run,
            "models": models,
            "seed": self.seed,
            "planner_temperature": self.temperature,
            "vllm_args": list(self.server_args),
        }


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Settings.recorded`` gives now of what a header has: an older one names options of
    training too, which shape no evaluation.
    """
    node = {}
    for key, value in settings["agentflow"].items():
        if key not in NOT_RECORDED:
            node[key] = value
    return {**settings, "agentflow": node}


def sources(given: Namespace, used: set[str]) -> dict[str, Source]:
    """Where ``policy`` and ``base`` are, as far as modules use them."""
    needs_template = "--chat-template" not in given.server_args
    if given.endpoint is not None:
        base = Source(checked_url("--endpoint", given.endpoint), given.model)
    elif given.model is not None:
        base = Source(checked_model("--model", given.model, needs_template))
    else:
        base = None
    planner = base
    if given.planner is not None:
        if "://" in given.planner:
            place = checked_url("--planner", given.planner)
        else:
            place = checked_model("--planner", given.planner, needs_template)
        planner = Source(place, given.planner_model)
    elif given.planner_model is not None and base is not None:
        planner = Source(base.place, given.planner_model)
    found = {}
    for name, source in (("policy", planner), ("base", base)):
        if name not in used:
            continue
        if source is None:
            raise ConfigError(
                "name a model: --model PATH starts a server, --endpoint URL uses one that runs"
            )
        found[name] = source
    return found


@dataclass(frozen=True)
class RunConfig:
    """What is read here of a YAML file. ``node`` is its ``agentflow:`` node, or the whole file
    where it has none. The rest is a training run's: arguments of the chat template that it trained
    with, and the most tokens that its policy may write.
    """

    node: dict[str, Any] = field(default_factory=dict)
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    response_limit: int | None = None


def read_config(path: Path) -> RunConfig:
    """Read a YAML file, interpolations resolved. Raises ConfigError where it cannot be read."""
    try:
        content = OmegaConf.load(path)
        if not isinstance(content, DictConfig):
            raise ConfigError(f"--config {path}: no mapping; write the keys of the node agentflow")
        node = content.get("agentflow", content)
        for key in set(NOT_READ) & set(node):
            del node[key]
        template_kwargs = OmegaConf.select(content, "data.apply_chat_template_kwargs")
        limit = OmegaConf.select(content, "data.max_response_length")
        if not isinstance(limit, int):
            limit = None
        return RunConfig(_plain_mapping(node), _plain_mapping(template_kwargs), limit)
    except (OSError, UnicodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config {path}: {reason}") from None


def _plain_mapping(node: Any) -> dict[str, Any]:
    """A node of the file as a plain dictionary; interpolations may point anywhere in the file."""
    if not isinstance(node, DictConfig):
        return {}
    plain = OmegaConf.to_container(node, resolve=True)
    if not isinstance(plain, dict):  # a node that is null
        return {}
    return {str(key): value for key, value in plain.items()}


def parse_template_kwargs(text: str) -> dict[str, Any]:
    """The option ``--chat-template-kwargs``: a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(
            f"--chat-template-kwargs {text!r}: write a JSON object, such as"
            """ '{"enable_thinking": false}'"""
        )
    return value


def tool_node(text: str) -> tuple[str, dict[str, Any]]:
    """``name=URL`` or ``name arguments of its server…`` as an entry of ``agentflow.tools``."""
    name, equals, url = text.partition("=")
    if equals and url.startswith(("http://", "https://")):
        return name, {"urls": (url,)}
    words: Sequence[str] = shlex.split(text)
    if not words:
        raise ConfigError("--tool: write a server's name, then = and its URL, or its arguments")
    return words[0], {"args": tuple(words[1:])}


def judge_endpoint(given: Namespace) -> dict[str, Any]:
    """The judge of the command line as an entry of ``agentflow.endpoints``."""
    if given.judge_model is None:
        raise ConfigError("--judge-model is missing: the judge's name at --judge")
    return {
        "base_url": checked_url("--judge", given.judge),
        "model": given.judge_model,
        "api_key_env": given.judge_key_env,
    }


def price(text: str) -> tuple[str, tuple[float, float]]:
    """``engine=IN,OUT`` in dollars per million tokens."""
    try:
        engine, _, numbers = text.partition("=")
        asked, answered = map(float, numbers.split(","))
    except ValueError:
        raise ConfigError(
            f"--price {text!r}: write ENGINE=IN,OUT in dollars per million tokens, such as"
            " base=0.15,0.60"
        ) from None
    return engine, (asked, answered)


def serving_engine() -> str | None:
    """The engine that serves model folders: vLLM, or SGLang where that alone is installed."""
    for engine in ("vllm", "sglang"):
        if importlib.util.find_spec(engine) is not None:
            return engine
    return None


def checked_url(option: str, place: str) -> str:
    if not place.startswith(("http://", "https://")):
        raise ConfigError(
            f"{option} {place!r}: write the address up to and including /v1, such as"
            " http://127.0.0.1:8000/v1"
        )
    if "@" in urlsplit(place).netloc:  # it would stand in the report
        raise ConfigError(
            f"{option}: no user or password in the address; put the key into a variable and name it"
            " with --api-key-env"
        )
    return place.rstrip("/")


def checked_model(option: str, place: str, needs_template: bool = True) -> str:
    """Check that a folder holds a complete model; anything else is taken for a hub's name."""
    folder = Path(place).expanduser()
    if folder.is_dir():
        try:
            model = check_model_folder(folder, needs_template=needs_template)
            check_architecture(model, serving_engine() or "vllm")
        except ConfigError as wrong:
            raise ConfigError(f"{option}: {wrong}") from None
        return str(folder.resolve())
    if place.startswith((".", "/", "~")):
        raise ConfigError(f"{option} {place}: there is no such folder")
    return place
