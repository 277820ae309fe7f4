"""Requests of SGLang's HTTP endpoint pass through verl's server with ours over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from agentflow_verl.trainer.rollout.sglang_server import AbortingServer


@pytest.mark.parametrize("rid", [["a", "b"], None, "other", "ours"])
async def test_only_our_requests_are_noted(rid):
    """A batch has a list of ids."""

    async def generate_request(obj: Any, request: Any) -> AsyncIterator[Any]:
        yield {"meta_info": {"cached_tokens": 3}}

    server = AbortingServer.__new__(AbortingServer)
    server._cached_tokens = {"ours": None}
    noting = server._noting_cached_tokens(generate_request)
    assert len([output async for output in noting(SimpleNamespace(rid=rid))]) == 1
    assert server._cached_tokens == {"ours": 3 if rid == "ours" else None}
