"""What an MCP request looks like on the wire: headers and a JSON-RPC body, built without any input
or output.

Two generations (MCP specification, "Streamable HTTP"): since 2026-07-28 every request describes
itself, in its ``_meta`` and in headers that a proxy can route on; before, a handshake settles the
version and may open a session.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow_verl.core.errors import MalformedOutput

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
CLIENT = {"name": "agentflow_verl", "version": "1"}
MAX_REQUEST_BYTES = 1024 * 1024  # servers on the official SDK refuse requests above 4 MiB
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# Visible ASCII, blanks inside only: at the ends they would be cut off (RFC 9110, field values).
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# A token of RFC 9110.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class Peer:
    """How one server wants to be spoken to, and who it said it is in the handshake."""

    version: str
    session_id: str | None = None
    server: str = ""

    @property
    def modern(self) -> bool:
        return self.version == MODERN

    def headers(self) -> dict[str, str]:
        headers = {"MCP-Protocol-Version": self.version}
        if self.session_id:
            headers["Mcp-Session-Id"] = self.session_id
        return headers

    def request(
        self,
        request_id: int,
        method: str,
        params: Mapping[str, Any],
        schema: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a request. ``schema`` is that of the arguments of the tool it calls,
        if it is known.

        Raises ``MalformedOutput`` for arguments that cannot be sent.
        """
        headers = self.headers()
        if not self.modern:
            return headers, encode(
                {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
            )
        meta = {
            **params.get("_meta", {}),
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": CLIENT,
        }
        params = {**params, "_meta": meta}
        body = encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        headers["Mcp-Method"] = method
        if method == "tools/call":
            headers["Mcp-Name"] = header_value(params["name"])
            for token, value in header_arguments(schema or {}, params["arguments"]):
                headers[f"Mcp-Param-{token}"] = header_value(value)
        return headers, body

    def notification(self, method: str, params: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
        """Headers and body of a message that is owed no answer."""
        return self.headers(), encode({"jsonrpc": "2.0", "method": method, "params": params})


def is_plain(value: str) -> bool:
    """Whether text survives an HTTP header as it is."""
    return _PLAIN.fullmatch(value) is not None


def header_value(value: str) -> str:
    """``value`` for an HTTP header; what a header cannot hold goes as base64 in a sentinel (MCP
    2026-07-28).
    """
    if is_plain(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def header_arguments(
    schema: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The arguments that a server wants repeated in ``Mcp-Param-*`` headers (``x-mcp-header`` in
    its schema).
    """
    for name, part in (schema.get("properties") or {}).items():
        value = arguments.get(name)
        if not isinstance(part, dict) or value is None:
            continue
        token = part.get("x-mcp-header")
        if isinstance(value, dict):
            yield from header_arguments(part, value)
        elif (
            isinstance(token, str)
            and _HEADER_NAME.fullmatch(token)
            and isinstance(value, (str, int, float))
        ):
            text = str(value)
            if isinstance(value, bool):
                text = text.lower()  # as in JSON
            yield token, text


def encode(message: Mapping[str, Any]) -> bytes:
    """A JSON-RPC message as JSON. Raises ``MalformedOutput``: what cannot be encoded came from a
    model's text.
    """
    try:
        body = _JSON.encode(message).encode()
    except (ValueError, TypeError, RecursionError) as error:
        # NaN, half a surrogate pair, an endless nesting.
        raise MalformedOutput(f"arguments cannot be sent as JSON: {str(error)[:200]}") from None
    if len(body) > MAX_REQUEST_BYTES:
        raise MalformedOutput(
            f"arguments are {len(body)} bytes as JSON, the most is {MAX_REQUEST_BYTES}"
        )
    return body
