"""What a tool server counts, in Prometheus' text format at ``/metrics``.

    agentflow_tool_calls_total{tool,status}
        status: ok, failed, refused, busy, fault, cancelled
    agentflow_tool_call_seconds{tool}
        histogram, waiting for a slot included
    agentflow_tool_calls_running{tool}
        calls under way
    agentflow_tool_upstream_requests_total{upstream,outcome}
        requests to a service behind the tool, each attempt
    agentflow_tool_info{server}
        1 per process

With several workers the counts of all of them are added up, whichever of them is asked:
prometheus_client keeps them in files of the folder ``PROMETHEUS_MULTIPROC_DIR``, which workers.py
sets before it starts them.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Container
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from tool_servers.common.calls import SERVER_BUSY

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

calls = Counter("agentflow_tool_calls", "Tool calls that ended.", ["tool", "status"])
call_seconds = Histogram(
    "agentflow_tool_call_seconds", "Time of a tool call.", ["tool"], buckets=SECONDS
)
running = Gauge(
    "agentflow_tool_calls_running", "Tool calls under way.", ["tool"], multiprocess_mode="livesum"
)
upstream_requests = Counter(
    "agentflow_tool_upstream_requests", "Requests to a service.", ["upstream", "outcome"]
)
info = Gauge("agentflow_tool_info", "What serves.", ["server"], multiprocess_mode="livesum")


@functools.cache
def labelled(metric: MetricWrapperBase, *labels: str) -> Any:
    """The metric with these labels. The library's own look-up takes a lock, and as long as the rest
    of a count.
    """
    return metric.labels(*labels)


def measure(tools: Container[str]) -> ServerMiddleware[Any]:
    """A middleware that counts and times every call of ``tools``. Other names, which a model made
    up, share one label.
    """

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        tool = (ctx.params or {}).get("name")
        if not isinstance(tool, str) or tool not in tools:
            tool = "unknown"
        status, start = "cancelled", time.monotonic()
        labelled(running, tool).inc()
        try:
            result = await call_next(ctx)
            is_error = isinstance(result, dict) and bool(result.get("isError"))
            status = "failed" if is_error else "ok"
            return result
        except MCPError as error:
            status = {SERVER_BUSY: "busy", INVALID_PARAMS: "refused"}.get(error.error.code, "fault")
            raise
        except Exception:
            status = "fault"
            raise
        finally:
            labelled(running, tool).dec()
            labelled(calls, tool, status).inc()
            labelled(call_seconds, tool).observe(time.monotonic() - start)

    return middleware


def page() -> Response:
    """The answer to ``GET /metrics``."""
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
