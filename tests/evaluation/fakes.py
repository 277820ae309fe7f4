"""An OpenAI-compatible endpoint that plays the five modules, and questions that it can and cannot
answer.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from agentflow_verl.flow import prompts
from agentflow_verl.flow.modules import MODULES

SUMS = [
    {
        "id": number,
        "question": f"What is {number} plus {number}?",
        "answer": str(2 * number),
        "data_source": "gsm8k",
    }
    for number in range(6)
]
FACTS = [
    {"question": f"Who wrote book {number}?", "answer": [f"author {number}"], "data_source": "nq"}
    for number in range(4)
]
OPENINGS = {module: prompts.load(module).system.template[:40] for module in MODULES}


def write_questions(folder: Path, **files: list[dict[str, Any]]) -> Path:
    """``NAME.jsonl`` for each; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return folder


def module_of(body: dict[str, Any]) -> str:
    system = body["messages"][0]["content"]
    return next(module for module, opening in OPENINGS.items() if system.startswith(opening))


def right(body: dict[str, Any]) -> str:
    """A model that plans one call of echo and answers sums right, whatever else wrong."""
    user = body["messages"][-1]["content"]
    number = next((word.strip("?") for word in user.split() if word.strip("?").isdecimal()), "0")
    return {
        "analyst": "Add.",
        "planner": f"Justification: it helps\nContext: {number}\nSub-goal: say it\nTool: echo",
        "executor": json.dumps({"text": number}),
        "verifier": "Analysis: done\nConclusion: STOP",
        "generator": f"So. <answer>{2 * int(number)}</answer>",
    }[module_of(body)]


def slow(body: dict[str, Any]) -> str:
    """The same, and takes its time."""
    time.sleep(0.02)
    return right(body)


def wrong(body: dict[str, Any]) -> str:
    """As ``right``, but its answers are wrong."""
    return right(body).replace("<answer>", "<answer>9")


class Model:
    """What the endpoint says, and what it was asked."""

    def __init__(self, says: Callable[[dict[str, Any]], str], name: str = "toy"):
        self.says = says
        self.name = name
        self.bodies: list[dict[str, Any]] = []
        self.broken = False  # answers every call with HTTP 500
        self.url = ""

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if self.broken:
            return web.Response(status=503)
        await asyncio.sleep(0)
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return web.json_response(
            {
                "choices": [{"message": {"content": self.says(body)}, "finish_reason": "stop"}],
                "usage": usage,
            }
        )

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.name}]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "1.2.3"})

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/version", self.version)
        app.router.add_get("/health", self.health)
        return app


@contextmanager
def endpoint(says: Callable[[dict[str, Any]], str] = right) -> Iterator[Model]:
    """The endpoint, served from a thread of its own, so that a command line can be called while it
    runs.
    """
    model, loop = Model(says), asyncio.new_event_loop()
    runner = web.AppRunner(model.app())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1]

    port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    model.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield model
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
