"""The tool ``python_coder``."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import Sequence
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from pydantic import Field

from tool_servers.common import calls, lifetime, logs, options, serve
from tool_servers.python_coder import bubblewrap, seccomp, selftest
from tool_servers.python_coder.limits import Busy, Limits, SandboxError
from tool_servers.python_coder.sandbox import MOST_JOBS, Sandbox, claim_uids

NAME = "python_coder"
NOTHING_PRINTED = "[the program printed nothing: use print() to see a value]"
WRONG_INPUT, WEAK_ISOLATION = 2, 3

log = logging.getLogger("tool_servers.python_coder")


def build(sandbox: Sandbox) -> MCPServer:
    """The MCP server over a sandbox."""
    mcp = MCPServer(NAME)

    async def python_coder(
        code: Annotated[str, Field(description="A complete Python program. Only what it prints is returned.")],
        context: Context,
    ) -> CallToolResult:
        start = time.monotonic()
        left = calls.deadline(context, sandbox.limits.seconds) - start
        status = "failed"
        try:
            job = await sandbox.run(code, left)
            status = job.status
        except Busy as error:
            status = "busy"
            raise MCPError(calls.SERVER_BUSY, str(error)) from error
        except SandboxError as error:
            raise calls.broken(f"the sandbox failed: {error}") from error
        finally:
            took = round(time.monotonic() - start, 4)
            log.info("call", extra={"tool": NAME, "status": status, "seconds": took, "code_chars": len(code)})
        if job.status == "killed":
            raise calls.broken(f"the program was ended before it was done: {job.output[-200:]}")
        return calls.answer(job.output or NOTHING_PRINTED) if job.status == "ok" else calls.failure(job.output)

    mcp.add_tool(
        python_coder,
        description="Run one Python 3 program and return what it prints.",  # no minor version: prompts are the same anywhere
        meta=calls.meta(notes(sandbox.limits), pure=False),
        structured_output=False,
    )
    return mcp


def notes(limits: Limits) -> str:
    """Limitations and best practices, for prompts."""
    extra = [name for name in ("numpy", "sympy") if importlib.util.find_spec(name)]
    packages = f"The standard library{', ' if extra else ''}{' and '.join(extra)} can be imported. "
    return (
        "Each call is a new interpreter: import and define everything the program needs, and print the result. "
        f"{packages}No network, no input(), no files but its own in /tmp; "
        f"at most {limits.seconds:g} s and {limits.memory_mb} MB."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 for a wrong option, 3 when the isolation asked for is not reached."""
    parser = options.parser(NAME, "Serve sandboxed Python as the MCP tool python_coder.")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs",
        type=options.integer(1, MOST_JOBS),
        default=min(2 * cores, MOST_JOBS),
        help="programs that run at once; others wait, within their deadline (default: twice the cores, %(default)s)",
    )
    parser.add_argument(
        "--memory-mb",
        type=options.integer(64, 1 << 20),
        default=Limits.memory_mb,
        help="memory of a program (default: %(default)s)",
    )
    parser.add_argument(
        "--isolation",
        choices=[selftest.FULL],
        default=selftest.FULL,
        help="what the self-test must find (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    logs.configure()
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        limits = Limits(seconds=given.timeout, memory_mb=given.memory_mb)
        asyncio.run(_serve(given.host, given.port, limits, given.jobs))
    except (lifetime.ParentGone, OSError) as error:
        serve.refuse(NAME, str(error), WRONG_INPUT)


async def _serve(host: str, port: int, limits: Limits, jobs: int) -> None:
    try:
        box = bubblewrap.find()
        seccomp.program()
        uids, claim = claim_uids(jobs) if os.geteuid() == 0 else (None, None)
    except SandboxError as error:
        serve.refuse(NAME, f"isolation full was not reached: {error}", WEAK_ISOLATION)
    sandbox = Sandbox(box, limits, jobs, uids)
    try:
        await check(sandbox)
        await serve.serve(build(sandbox), host, port, {"isolation": selftest.FULL}, sandbox.close)
    finally:
        if claim is not None:
            claim.close()


async def check(sandbox: Sandbox) -> None:
    """Run the self-test. Exits with 3 and one line when the sandbox does not start or does not hold."""
    start = time.monotonic()
    try:
        findings = await selftest.attack(sandbox)
    except SandboxError as error:
        reason = " ".join(str(error).split())
        serve.refuse(
            NAME,
            f"isolation full was not reached, the sandbox does not start: {selftest.advice(reason)}",
            WEAK_ISOLATION,
        )
    if findings:
        listed = "; ".join(" ".join(str(finding).split()) for finding in findings)
        serve.refuse(NAME, f"isolation full was not reached, the self-test got through: {listed}", WEAK_ISOLATION)
    log.info("self-test passed", extra={"isolation": selftest.FULL, "seconds": round(time.monotonic() - start, 3)})
