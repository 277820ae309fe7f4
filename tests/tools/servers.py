"""Real servers for the tests: the echo server as a process, and one that breaks HTTP in scripted
ways.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.http_session import new_session
from agentflow_verl.tools.mcp.protocol import MODERN, Peer
from agentflow_verl.tools.mcp.transport import post

ECHO_SERVER = str(Path(__file__).parent / "echo/server.py")  # a folder that shadows no package
ECHO_COMMAND = (sys.executable, ECHO_SERVER)


class EchoProcess:
    """The echo server, started without a supervisor."""

    def __init__(self, *args: str, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [*ECHO_COMMAND, "--port", str(port), "--exit-with-parent", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.port = json.loads(self.process.stdout.readline())["port"]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        wait_until(lambda: get(self.port, "/healthz") is not None, "the echo server answers")

    def state(self) -> dict[str, int]:
        return json.loads(get(self.port, "/state"))

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def echo_process(*args: str, port: int = 0):
    server = EchoProcess(*args, port=port)
    try:
        yield server
    finally:
        server.kill()


def get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.read().decode()
    except OSError:
        return None


def wait_until(condition, what: str, seconds: float = 15.0):
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its new parent has not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds)


def embedded(name: str = "echo", *args: str, **options) -> ToolConfig:
    return ToolConfig(name=name, command=ECHO_COMMAND, args=args, **options)


class FaultyServer:
    """Answers MCP with one tool ``echo``; each call of it takes the next scripted fault, then calls
    succeed.

    A fault gets the stream and the request's id and breaks what it likes. ``urls`` ends in /mcp.
    """

    def __init__(self) -> None:
        self.faults: list = []
        self.calls = 0
        self.heads: list[str] = []
        self.connections: set[asyncio.Task] = set()
        self.list_fault = None
        self.on_reply = print

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/mcp"

    async def stop(self) -> None:
        self._server.close()
        for connection in self.connections:
            connection.cancel()
        if self.connections:
            await asyncio.wait(self.connections)

    def lists(self, **tool) -> None:
        """List the tool ``echo`` with these fields."""
        self.lists_like({"tools": [{"name": "echo", "inputSchema": {"type": "object"}, **tool}]})

    def lists_like(self, listing: dict) -> None:
        """Pass for a replica of the server with this listing."""

        async def list_them(writer, request_id):
            send_result(writer, request_id, listing)

        self.list_fault = list_them

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
                request = json.loads(await reader.readexactly(length))
                await self._answer(writer, request)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.connections.discard(asyncio.current_task())

    async def _answer(self, writer: asyncio.StreamWriter, request: dict) -> None:
        if "method" not in request:  # an answer to a request of ours
            self.on_reply(request)
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            return
        method = request["method"]
        if method == "server/discover":
            send_result(writer, request["id"], {"supportedVersions": ["2026-07-28"]})
        elif method == "tools/list" and self.list_fault:
            await self.list_fault(writer, request["id"])
        elif method == "tools/list":
            tool = {"name": "echo", "inputSchema": {"type": "object"}}
            send_result(writer, request["id"], {"tools": [tool]})
        else:
            self.calls += 1
            if self.faults:
                await self.faults.pop(0)(writer, request["id"])
            else:
                send_result(writer, request["id"], {"content": [{"type": "text", "text": "fine"}]})


async def listed_by(url: str) -> dict:
    """The answer of a server to ``tools/list``, in the words of the wire."""
    headers, body = Peer(MODERN).request(1, "tools/list", {})
    async with new_session() as session:
        return (await post(session, url, body, headers, 20)).result


def send_result(writer: asyncio.StreamWriter, request_id, result) -> None:
    send_json(writer, {"jsonrpc": "2.0", "id": request_id, "result": result})


def send_json(writer: asyncio.StreamWriter, message, status: str = "200 OK") -> None:
    send(writer, json.dumps(message).encode(), status)


def send(
    writer: asyncio.StreamWriter,
    body: bytes,
    status: str = "200 OK",
    kind: str = "application/json",
) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
