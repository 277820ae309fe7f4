"""One job, from the outside: its output, its descriptors, its end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from tool_servers.python_coder.sandbox.job import Job, Output, is_readable
from tool_servers.python_coder.sandbox.limits import Limits


def test_output_keeps_both_ends_and_says_what_is_gone() -> None:
    output = Output(shown=40)
    for number in range(100):
        output.add(f"{number:03d} ".encode())
    assert (
        output.text() == "000 001 00\n[... 360 bytes left out ...]\n2 093 094 095 096 097 098 099 "
    )
    assert output.total == 400


def test_any_descriptor_can_be_looked_at(many_descriptors: None) -> None:
    ours, theirs = os.pipe()
    assert ours >= 1024
    assert not is_readable(ours)
    os.write(theirs, b"x")
    assert is_readable(ours)
    os.read(ours, 1)
    os.close(theirs)
    assert is_readable(ours)  # the end
    os.close(ours)


@pytest.mark.parametrize("who", ["the sandbox", "the program"])
async def test_answer_does_not_wait_for_the_sandbox_to_be_taken_apart(who: str) -> None:
    ours, theirs = socket.socketpair()
    said, stdin = socket.socketpair()
    output, printed = os.pipe()
    first = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    job = Job(ours, said, output, Limits(), session=False)
    socket.send_fds(theirs, [b"ready"], [os.pidfd_open(first.pid)])
    await job.ready()
    await job.start(b"print('x')", lambda: None)
    os.write(printed, b"x\n")
    {"the sandbox": theirs, "the program": stdin}[who].send(b"exit 0\n")
    assert await asyncio.wait_for(job.finished, 10) == "exit 0"
    assert job.collect() == ("x\n", "exit 0")
    assert not job.ended.done()
    job.kill()
    await asyncio.wait_for(job.ended, 10)
    first.wait()
    theirs.close()
    stdin.close()
    os.close(printed)


async def test_output_of_a_job_that_goes_on_writing_is_read_for_no_longer_than_a_pipe_holds() -> (
    None
):
    """A process that a session's program left behind writes faster than the server reads."""
    ours, theirs = socket.socketpair()
    said, stdin = socket.socketpair()
    output, printed = os.pipe()
    writer = subprocess.Popen(["cat", "/dev/zero"], stdout=printed)
    os.close(printed)
    job = Job(ours, said, output, Limits(), session=True)
    job.finished.set_result("done 0")
    await asyncio.sleep(0.2)
    job.collect()
    assert job.output.total == 0
    writer.kill()
    writer.wait()
    job.close()
    theirs.close()
    stdin.close()
