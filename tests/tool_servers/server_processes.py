"""Start real servers, look after their processes, and set out bait that jobs must not reach."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from tool_servers.common import calls

ROOT = Path(__file__).parents[2]
START_S = 60.0


@dataclass
class Running:
    """A server process that listens."""

    process: subprocess.Popen
    line: dict
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.line['port']}"

    @property
    def pid(self) -> int:
        return self.line["pid"]


def command(server: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tool_servers.{server}", *arguments]


def start(line: list[str], log: Path, **options) -> Running:
    """Start a server and wait for its listening line."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, **options)
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    said = process.stdout.readline() if ready else b""
    if not said:
        process.kill()
        process.wait()
        raise AssertionError(f"no listening line; standard error: {log.read_text()[-2000:]}")
    return Running(process, json.loads(said), log)


def stop(running: Running) -> None:
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()
    running.process.stdout.close()


@dataclass
class Bait:
    """What a job would find if it got out."""

    file: Path
    tcp: socket.socket
    udp: socket.socket
    abstract: str
    listener: socket.socket

    def names(self) -> str:
        """Lines that define, in a job, where the bait is."""
        ports = f"TCP = {self.tcp.getsockname()[1]}\nUDP = {self.udp.getsockname()[1]}"
        return f"FILE = {str(self.file)!r}\n{ports}\nABSTRACT = {self.abstract!r}\n"

    def reached(self) -> bool:
        """Whether something came since it was asked last."""
        ready, _, _ = select.select([self.tcp, self.udp, self.listener], [], [], 0)
        for place in ready:
            if place is self.udp:
                place.recv(1024)
            else:
                place.accept()[0].close()
        return bool(ready)


def descendants(pid: int) -> set[tuple[int, str]]:
    """Every process below ``pid``, by number and start time."""
    parents, requests = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = re.sub(
                    r"^.*\) ", "", (entry / "stat").read_text(errors="replace"), flags=re.DOTALL
                ).split()
            except OSError:
                continue
            parents[int(entry.name)], requests[int(entry.name)] = int(stat[1]), stat[19]
    below, found = {pid}, set()
    while True:
        more = {child for child, parent in parents.items() if parent in below} - below
        if not more:
            return found
        below |= more
        found |= {(child, requests[child]) for child in more}


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of the processes that are still there, dead ones nobody waited for not counted."""
    left = set()
    for pid, birth in processes:
        try:
            stat = re.sub(
                r"^.*\) ",
                "",
                Path(f"/proc/{pid}/stat").read_text(errors="replace"),
                flags=re.DOTALL,
            ).split()
        except OSError:
            continue
        if stat[19] == birth and stat[0] != "Z":
            left.add((pid, birth))
    return left


def eventually(condition: Callable[[], bool], within: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


async def call(
    running: Running, tool: str, arguments: dict, remaining_s: object = None, mode: str = "auto"
):
    """Call a tool once with a client of its own. Raises MCPError."""
    meta = None if remaining_s is None else {calls.REMAINING_S: remaining_s}
    async with Client(f"{running.url}/mcp", mode=mode) as client:
        try:
            return await client.call_tool(tool, arguments, meta=meta)
        except MCPError as error:
            refusal = error
    raise refusal  # out here it does not come wrapped in the client's exception group


def text(result) -> str:
    assert [block.type for block in result.content] == ["text"]
    assert result.structured_content is None
    return result.content[0].text


def get(running: Running, path: str, **headers: str) -> tuple[int, str]:
    """Status and body of a GET request; header names with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(running.url + path, headers=named), timeout=10
        ) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(running: Running) -> dict[str, float]:
    """What ``/metrics`` counts, by name with labels."""
    status, page = get(running, "/metrics")
    assert status == 200
    lines = (
        line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#")
    )
    return {name: float(value) for name, _, value in lines}
