"""The servers of the tool benchmark, each a process: a bare JSON endpoint, an empty tool, and the
real ones.

``python -m tests.benchmarks.tool_processes json|empty`` is one that has no other purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.tools.embedded.supervisor import Supervisor
from tool_servers.common import calls, lifetime, logs, serve
from tool_servers.common.tool import OneTool

PLAIN = ("json", "empty")
PASSAGES = 20_000
WORDS = 5_000


def json_endpoint() -> Starlette:
    """What a tool could cost at the least in this framework: read JSON, write JSON."""

    async def answer(request: Request) -> JSONResponse:
        message = await request.json()
        return JSONResponse(
            {
                "jsonrpc": "2.0",
                "id": message["id"],
                "result": {"content": [{"type": "text", "text": "ok"}]},
            }
        )

    async def health(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/mcp", answer, methods=["POST"]), Route("/healthz", health)])


class Text(BaseModel):
    """What the empty tool takes."""

    text: str


def empty_tool() -> OneTool:
    """A tool that does nothing, in the frame that the servers of this project have."""

    async def empty(asked: Text, context: ServerRequestContext) -> CallToolResult:
        return calls.text_result("ok")

    return OneTool("empty", "Do nothing.", Text, empty, calls.tool_meta("", cacheable=True))


async def listen(app: Starlette) -> None:
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"event": "listening", "port": port}) + "\n")
    sys.stdout.flush()
    await serving


def write_corpus(path: Path) -> None:
    """Passages of random words, the frequent ones more frequent, as in a language."""
    chance = random.Random(0)
    words = [f"w{number}" for number in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    with path.open("w") as lines:
        for number in range(PASSAGES):
            text = " ".join(chance.choices(words, weights, k=80))
            lines.write(json.dumps({"title": f"passage {number}", "text": text}) + "\n")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[dict[str, ToolConfig], dict[str, psutil.Process]]]:
    """All servers by name, with their URLs, and their processes.

    The ones that do nothing get the first core where there are others for the client; the rest run
    where they like.
    """
    corpus = folder / "corpus.jsonl"
    write_corpus(corpus)
    here = (sys.executable, "-m", "tests.benchmarks.tool_processes")
    configs = [
        *(ToolConfig(name=name, command=(*here, name), concurrency=1000) for name in PLAIN),
        ToolConfig(name="wikipedia_search", args=("--corpus", str(corpus)), concurrency=1000),
        ToolConfig(name="python_coder", args=("--timeout", "60"), timeout_s=60.0, concurrency=1000),
    ]
    with Supervisor(configs, log_dir=folder) as supervisor:
        processes = {name: psutil.Process(pid) for name, pid in supervisor.pids.items()}
        first, *others = sorted(psutil.Process().cpu_affinity())
        if others:
            for name in PLAIN:
                processes[name].cpu_affinity([first])
            psutil.Process().cpu_affinity(others)
        yield {config.name: config for config in supervisor.configs}, processes


def main() -> None:
    lifetime.end_with_parent()
    logs.configure()
    serving = {
        "json": lambda: listen(json_endpoint()),
        "empty": lambda: serve.serve(serve.Ready(empty_tool()), "127.0.0.1", 0),
    }
    asyncio.run(serving[sys.argv[1]]())


if __name__ == "__main__":
    main()
