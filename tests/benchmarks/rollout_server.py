"""The model endpoint and the tool server of the rollout benchmark, one process that answers by rule
after a seeded wait.

    python -m tests.benchmarks.rollout_server --median SECONDS

Bytes in, bytes out on an asyncio protocol: a web framework would cost more than the client that is
measured. A request names its trajectory by ``#NUMBER#``. The calls of a trajectory follow each
other, so their count says which module asks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from agentflow_verl.tools.mcp.protocol import MODERN

TURNS = 3
PER_TURN = ("planner", "executor", "tool", "verifier")
CALLS = ("analyst", *PER_TURN * TURNS, "generator")
SIGMA = 0.6  # of the logarithm of a wait
_NUMBER = re.compile(rb"#(\d+)#")
_ID = re.compile(rb'"id": ?(\d+)')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)

RESULT = "A passage that was found, of about the length that such passages have. " * 12
TEXTS = {
    "analyst": (
        "The question asks for one fact. A search finds it; the result then has to be read with"
        " care. " * 2
    ),
    "planner": (
        "Justification: The fact is not known yet, and a search is the shortest way to"
        " it.\nContext: the question names it as #{}#\nSub-goal: Find the page about #{}# and read"
        " the fact from its first paragraph\nTool: simulated_search"
    ),
    "executor": '{{"query": "#{}# first paragraph", "limit": 3}}',
    "continue": (
        "Analysis: The result names the page, but the fact is not in it yet.\nConclusion: CONTINUE"
    ),
    "stop": "Analysis: The fact is in the last result and answers the question.\nConclusion: STOP",
    "generator": "The pages that were found agree on it. <answer>1912</answer>",
}
TOOL = {
    "name": "simulated_search",
    "description": "Finds passages about something and gives the best ones.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1, "default": 3},
        },
        "required": ["query"],
    },
}


def wait_of(median_s: float, number: int, call: int) -> float:
    """Seconds that one call of one trajectory takes: lognormal, the same in every run."""
    return (
        random.Random(f"{number}/{call}").lognormvariate(math.log(median_s), SIGMA)
        if median_s
        else 0.0
    )


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {
        "prompt_tokens": 400,
        "completion_tokens": len(text) // 4,
        "prompt_tokens_details": {"cached_tokens": 300},
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


class Simulated(asyncio.Protocol):
    """One connection. ``done`` counts the calls of each trajectory, over all connections."""

    def __init__(self, median_s: float, done: Counter):
        self.median_s, self.done = median_s, done
        self.received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if found and len(body) >= int(_LENGTH.search(head)[1]):
            self.received = b""
            self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> None:
        number = _NUMBER.search(body)
        if number is None:  # a tool server is first asked what it is
            self._send(_introduction(json.loads(body)))
            return
        trajectory = int(number[1])
        call = self.done[trajectory]
        self.done[trajectory] = (call + 1) % len(CALLS)
        module = CALLS[call]
        assert (module == "tool") == head.startswith(b"POST /mcp"), (module, head)
        if module == "verifier":
            module = "stop" if call == len(CALLS) - 2 else "continue"
        if module == "tool":
            answer = _rpc(
                int(_ID.search(body)[1]),
                {"content": [{"type": "text", "text": RESULT}], "isError": False},
            )
        else:
            answer = completion(TEXTS[module].format(trajectory, trajectory))
        seconds = wait_of(self.median_s, trajectory, call)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._send, answer)
        else:
            self._send(answer)

    def _send(self, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )


def _introduction(request: dict) -> bytes:
    discovered = {"supportedVersions": [MODERN]}
    return _rpc(
        request["id"], discovered if request["method"] == "server/discover" else {"tools": [TOOL]}
    )


def _rpc(request_id: int, result: dict) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()


@contextlib.contextmanager
def simulated(median_s: float) -> Iterator[str]:
    """The server as a process of its own; yields its URL."""
    command = [sys.executable, "-m", "tests.benchmarks.rollout_server", "--median", str(median_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate()  # closes its standard input, at which it ends


async def serve(median_s: float) -> None:
    done: Counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Simulated(median_s, done), "127.0.0.1", 0, backlog=4096
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--median", type=float, required=True)
    asyncio.run(serve(parser.parse_args().median))
