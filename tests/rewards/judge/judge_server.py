"""A judge behind a real HTTP server: it follows the prompt's own fields, or a script of faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def completion(text: str) -> web.Response:
    return web.json_response(
        {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}}
    )


def verdict(correct: bool, analysis: str = "as the accepted answer") -> str:
    return json.dumps({"analysis": analysis, "correct": correct})


def says(text: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return completion(text)

    return answer


def status(code: int, text: str = "no") -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=code, text=text)

    return answer


async def hangs(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


class JudgeServer:
    """Right is an answer that has a first letter in common with an accepted one. ``script`` comes
    first, once each.
    """

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.bodies: list[dict[str, Any]] = []
        self.now = self.most = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.script:
                return await self.script.pop(0)(request)
            await asyncio.sleep(0.01)
            fields = dict(
                part.split(": ", 1) for part in body["messages"][1]["content"].split("\n\n")
            )
            golds, answer = (
                json.loads(fields["Accepted answers"]),
                json.loads(fields["Candidate's answer"]),
            )
            return completion(verdict(any(gold[0].lower() == answer[0].lower() for gold in golds)))
        finally:
            self.now -= 1
