"""The tool ``python_coder``."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult
from pydantic import BaseModel, Field

from tool_servers.common import calls, lifetime, logs, options, serve
from tool_servers.common.connections import connection_limit
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.tool import OneTool
from tool_servers.python_coder.sandbox import bubblewrap, seccomp, selftest
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.sandbox.runner import SANDBOXES_PER_JOB, Sandbox
from tool_servers.python_coder.sandbox.sessions import Sessions
from tool_servers.python_coder.sandbox.slots import UIDS_PER_SERVER, claim_uids

NAME = "python_coder"
NOTHING_PRINTED = "[the program printed nothing: use print() to see a value]"
WEAK_ISOLATION = 3
"""Exit code: the isolation was not reached."""

log = logging.getLogger("tool_servers.python_coder")

TRAJECTORY = "agentflow/trajectory"
"""Key in a request's ``_meta``: the caller's trajectory, a text by which state is kept."""
TRAJECTORY_ENDED = "agentflow/trajectory_ended"
"""Key in a request's ``_meta``: true when the trajectory is over; the call's program is not run."""
STATE_KEPT = "agentflow/state_kept"
"""Key in a result's ``_meta``: whether the trajectory's next call finds what this one left. In a
request's: that the last result said so; where it is no longer true, the call is an error of the
server and does not run."""
LONGEST_ID = 200


class Arguments(BaseModel):
    """What a call takes."""

    code: str = Field(description="A complete Python program. Only what it prints is returned.")


def build(sandbox: Sandbox, sessions: Sessions | None = None, fingerprint: str = "") -> OneTool:
    """The MCP server over a sandbox. With ``sessions`` it keeps state for calls that name their
    trajectory.
    """

    async def run(code: str, seconds: float, meta: Mapping[str, Any]) -> JobResult:
        trajectory = meta.get(TRAJECTORY)
        if sessions is None or trajectory is None:
            return await sandbox.run(code, seconds)
        if not isinstance(trajectory, str) or not 0 < len(trajectory) <= LONGEST_ID:
            raise MCPError(
                INVALID_PARAMS,
                f"_meta {TRAJECTORY!r} must be a text of 1 to {LONGEST_ID} characters",
            )
        if meta.get(TRAJECTORY_ENDED) is True:
            sessions.end(trajectory)
            return JobResult("ok", "[its state is gone]", 0.0)
        return await sessions.run(trajectory, code, seconds, continues=meta.get(STATE_KEPT) is True)

    async def call(asked: Arguments, context: ServerRequestContext[Any]) -> CallToolResult:
        start = time.monotonic()
        left = calls.deadline(context, sandbox.limits.seconds) - start
        status = "failed"
        try:
            job = await run(asked.code, left, context.meta or {})
            status = job.status
        except Busy as error:
            status = "busy"
            raise MCPError(calls.SERVER_BUSY, str(error)) from error
        except SandboxError as error:
            raise calls.server_error(f"the sandbox failed: {error}") from error
        finally:
            took = round(time.monotonic() - start, 4)
            log.info(
                "call",
                extra={
                    "tool": NAME,
                    "status": status,
                    "seconds": took,
                    "code_chars": len(asked.code),
                },
            )
        if job.status == "killed":
            raise calls.server_error(
                f"the program was ended before it was done: {job.output[-200:]}"
            )
        if job.status == "ok":
            result = calls.text_result(job.output or NOTHING_PRINTED)
        else:
            result = calls.error_result(job.output)
        if job.kept:
            return result.model_copy(update={"meta": {STATE_KEPT: True}})
        return result

    meta = calls.tool_meta(
        notes(sandbox.limits, sessions is not None),
        False,
        fingerprint,
        keeps_state=sessions is not None,
    )
    # no minor version: prompts are the same on every machine
    description = (
        "Run one Python 3 program, offline, and return what it prints: for calculations, since it"
        " knows no facts."
    )
    return OneTool(NAME, description, Arguments, call, meta)


def notes(limits: Limits, state: bool) -> str:
    """Limitations and best practices, for prompts."""
    packages = "the standard library"
    extra = [name for name in ("numpy", "sympy") if importlib.util.find_spec(name)]
    if extra:
        packages += f", {' and '.join(extra)}"
    # "Import everything" had small models import until their limit (docs/evidence.md).
    begin = (
        "Each call is a new interpreter: define what the program needs, import only what it uses,"
        " and print the result."
    )
    if state:
        begin = "Variables, imports and files are kept from one call to the next: print the result."
    return (
        f"{begin} There are {packages}, no network, no input(), no arguments and no files but its"
        f" own in /tmp; at most {limits.seconds:g} s and {limits.memory_mb} MB."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 for a wrong option, 3 when the isolation asked for is not
    reached.
    """
    parser = options.parser(NAME, "Serve sandboxed Python as the MCP tool python_coder.")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs",
        type=options.integer(1, UIDS_PER_SERVER // 3),
        default=min(2 * cores, UIDS_PER_SERVER // 3),
        help=(
            "programs that run at once; others wait, within their deadline (default: twice the"
            " cores, %(default)s)"
        ),
    )
    parser.add_argument(
        "--memory-mb",
        type=options.integer(64, 1 << 20),
        default=Limits.memory_mb,
        help="memory of a program (default: %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        type=options.integer(0, UIDS_PER_SERVER // 3),
        default=0,
        help=(
            "trajectories at once whose calls keep their variables and files; 0, the default, keeps"
            " nothing"
        ),
    )
    parser.add_argument(
        "--session-idle",
        type=options.number(1, 86_400),
        default=900.0,
        help="seconds without a call after which kept state is dropped (default: %(default)s)",
    )
    parser.add_argument(
        "--isolation",
        choices=[selftest.FULL],
        default=selftest.FULL,
        help="what the self-test must find (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    logs.configure()
    if given.sessions and given.workers > 1:
        serve.exit_with(
            NAME,
            "--sessions keeps state in one process: instead of --workers, start several servers",
            serve.WRONG_INPUT,
        )
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        limits = Limits(seconds=given.timeout, memory_mb=given.memory_mb)
        asyncio.run(_serve(given, limits))
    except (lifetime.ParentGone, OSError) as error:
        serve.exit_with(NAME, str(error), serve.WRONG_INPUT)


async def _serve(given: argparse.Namespace, limits: Limits) -> None:
    connection_limit()  # the self-test opens sandboxes, of four descriptors each, before serving
    try:
        box = bubblewrap.find()
        seccomp.program()
        uids, claim = None, None
        if os.geteuid() == 0:
            uids, claim = claim_uids(SANDBOXES_PER_JOB * given.jobs + given.sessions)
    except SandboxError as error:
        serve.exit_with(NAME, f"isolation full was not reached: {error}", WEAK_ISOLATION)
    sandbox = Sandbox(box, limits, given.jobs, uids)
    sessions = None
    if given.sessions:
        rest = uids and uids[SANDBOXES_PER_JOB * given.jobs :]
        sessions = Sessions(sandbox, given.sessions, given.session_idle, rest)
    packages = [name for name in sandbox.preload if "." not in name]
    try:
        await check(sandbox)
        mcp = build(sandbox, sessions, compute_fingerprint(NAME, given, packages))
        ready = serve.Ready(mcp, {"isolation": selftest.FULL}, sandbox.close)
        await serve.serve(ready, given.host, given.port)
    finally:
        await sandbox.close()
        if claim is not None:
            claim.close()


async def check(sandbox: Sandbox) -> None:
    """Run the self-test. Exits with 3 and one line when the sandbox does not start or an attack
    succeeds.
    """
    start = time.monotonic()
    try:
        findings = await selftest.attack(sandbox)
    except Busy as error:
        serve.exit_with(
            NAME,
            f"isolation full was not reached, the machine is too busy for the self-test: {error}",
            WEAK_ISOLATION,
        )
    except SandboxError as error:
        reason = " ".join(str(error).split())
        serve.exit_with(
            NAME,
            "isolation full was not reached, the sandbox does not start:"
            f" {selftest.advice(reason)}",
            WEAK_ISOLATION,
        )
    if findings:
        listed = "; ".join(" ".join(str(finding).split()) for finding in findings)
        serve.exit_with(
            NAME,
            f"isolation full was not reached, the self-test got through: {listed}",
            WEAK_ISOLATION,
        )
    log.info(
        "self-test passed",
        extra={"isolation": selftest.FULL, "seconds": round(time.monotonic() - start, 3)},
    )
