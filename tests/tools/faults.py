"""Ways for a server to break one answer: each gets the stream and the id of the request."""

from __future__ import annotations

import asyncio
import json
import socket

from tests.tools.servers import send, send_json, send_result


async def garbage(writer, request_id):
    writer.write(bytes(range(256)) * 4)
    writer.close()


async def not_json(writer, request_id):
    send(writer, b"<html>nginx</html>", kind="text/html")


async def wrong_json(writer, request_id):
    send_json(writer, {"hello": "world"})


async def no_result(writer, request_id):
    send_json(writer, {"jsonrpc": "2.0", "id": request_id, "result": None})


async def a_list(writer, request_id):
    send_json(writer, [1, 2, 3])


async def another_id(writer, request_id):
    send_result(writer, "someone else", {"content": []})


async def bad_blocks(writer, request_id):
    send_result(writer, request_id, {"content": ["text"]})


async def needs_a_person(writer, request_id):
    send_result(writer, request_id, {"resultType": "input_required"})


async def json_rpc_error(writer, request_id):
    error = {"code": -32603, "message": "Internal error"}
    send_json(writer, {"jsonrpc": "2.0", "id": request_id, "error": error})


async def status_500(writer, request_id):
    send(writer, b"Internal Server Error", "500 Internal Server Error", "text/plain")


async def status_429(writer, request_id):
    send(writer, b"slow down", "429 Too Many Requests", "text/plain")


async def redirect(writer, request_id):
    writer.write(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length:"
        b" 0\r\n\r\n"
    )


async def close_at_once(writer, request_id):
    writer.close()


async def reset(writer, request_id):
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def close_early(writer, request_id):
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:"
        b' 1000\r\n\r\n{"jsonrpc"'
    )
    writer.close()


async def empty_stream(writer, request_id):
    send(writer, b": ping\n\n", kind="text/event-stream")


async def status_503(writer, request_id):
    send(writer, b"no upstream", "503 Service Unavailable", "text/plain")


async def busy(writer, request_id):
    """What this project's servers say when no slot came free in time."""
    error = {"code": -32050, "message": "every slot was busy"}
    send_json(writer, {"jsonrpc": "2.0", "id": request_id, "error": error})


async def hang(writer, request_id):
    await asyncio.sleep(60)


async def drip(writer, request_id, pause_s=0.05):
    """A right answer, a byte at a time."""
    text = {
        "jsonrpc": "2.0",
        "id": request_id,
        "result": {"content": [{"type": "text", "text": "slowly" * 100}]},
    }
    body = json.dumps(text).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    for byte in body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(pause_s)


async def keep_alive_forever(writer, request_id):
    """An event stream with comments and no answer."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    await repeat(writer, b": still there\n\n")


async def headers_without_end(writer, request_id):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await repeat(writer, b"X-More: and more\r\n")


async def repeat(writer, line):
    while True:
        writer.write(line)
        await writer.drain()
        await asyncio.sleep(0.02)


async def hundred_megabytes(writer, request_id):
    """Announced by nothing: the reader has to stop by itself."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    for _ in range(100):
        writer.write(b"x" * 2**20)
        await writer.drain()
