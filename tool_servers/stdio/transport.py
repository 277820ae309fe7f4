"""The standard streams of another MCP server, as a transport of the SDK's client.

The SDK's own ends, or loses a call, at what programs really print: bytes that are not UTF-8, half
of a surrogate pair, a banner. Here every line that holds no message is passed over, and a message
with bad text is repaired.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

import anyio
import anyio.abc
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

from tool_servers.common.text import replace_surrogates_in

LONGEST_LINE = 32 << 20
"""Bytes. A line that is longer is passed over, so that an endless one takes no more memory."""
END_S = 2.0
"""Seconds that the other server gets to end once its input is closed, before it is killed."""

log = logging.getLogger(__name__)
Streams = tuple[
    anyio.abc.ObjectReceiveStream["SessionMessage | Exception"],
    anyio.abc.ObjectSendStream[SessionMessage],
]


@contextlib.asynccontextmanager
async def stdio_transport(
    command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[Streams]:
    """Start the command; yields the stream of its messages and the one to it.

    Its error stream is this process's. Raises OSError when it cannot be started.
    """
    process = await anyio.open_process(command, env=environment, stderr=None)
    assert process.stdin is not None and process.stdout is not None
    received_in, received_out = anyio.create_memory_object_stream["SessionMessage | Exception"](0)
    sent_in, sent_out = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_receive_messages, process.stdout, received_in)
            tasks.start_soon(_send_messages, sent_out, process.stdin, received_in)
            try:
                yield received_out, sent_in
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
        for stream in (received_in, received_out, sent_in, sent_out):
            stream.close()


async def _receive_messages(
    stdout: anyio.abc.ByteReceiveStream,
    messages: anyio.abc.ObjectSendStream[SessionMessage | Exception],
) -> None:
    """Pass on the messages of the other server until its output ends; the client sees that end."""
    async with messages:
        with contextlib.suppress(
            anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream
        ):
            async for line in _lines(stdout):
                message = parse_message(line)
                if message is not None:
                    await messages.send(SessionMessage(message))
                elif line.strip():
                    log.info("passed over", extra={"bytes": len(line)})


async def _lines(stdout: anyio.abc.ByteReceiveStream) -> AsyncIterator[bytes]:
    held = bytearray()
    too_long = False
    async for chunk in stdout:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            held += end
            if not too_long:
                yield bytes(held)
            held.clear()
            too_long = False
        held += rest
        if len(held) > LONGEST_LINE:
            log.warning("a line is too long", extra={"bytes": len(held)})
            held.clear()
            too_long = True


async def _send_messages(
    messages: anyio.abc.ObjectReceiveStream[SessionMessage],
    stdin: anyio.abc.ByteSendStream,
    received: anyio.abc.ObjectSendStream[SessionMessage | Exception],
) -> None:
    try:
        async for one in messages:
            text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
            await stdin.send(text.encode() + b"\n")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        # its input is closed: the client must not wait for an answer to what was not sent
        await received.aclose()


def parse_message(line: bytes) -> JSONRPCMessage | None:
    """The JSON-RPC message in a line that a program printed, None where there is none.

    Bytes that are not UTF-8 and lone surrogates become U+FFFD. Text before the message on its line,
    such as a prompt, is passed over.
    """
    text = line.decode("utf-8", "replace")
    start = text.find("{")
    while start >= 0:
        if message := _validate(text[start:]):
            return message
        start = text.find('{"jsonrpc"', start + 1)
    return None


def _validate(text: str) -> JSONRPCMessage | None:
    with contextlib.suppress(ValueError):
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    try:
        # the standard library's parser takes escaped halves of surrogate pairs, the other does not
        value = replace_surrogates_in(json.loads(text))
        return jsonrpc_message_adapter.validate_python(value, by_name=False)
    except (ValueError, RecursionError):
        return None


async def _end(process: anyio.abc.Process) -> None:
    """Close the input, wait, kill."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    with anyio.move_on_after(END_S):
        # what it still prints is read, so that a full pipe does not keep it from ending
        with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError, OSError):
            while True:
                await process.stdout.receive()
    with anyio.move_on_after(END_S):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await process.aclose()
