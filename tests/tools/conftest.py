"""Fixtures: a real server shared by the session, one that breaks HTTP, a client."""

from __future__ import annotations

import pytest
import pytest_asyncio

from agentflow_verl.tools.mcp.client import McpClient
from tests.tools.servers import FaultyServer, echo_process


@pytest.fixture(scope="session")
def echo():
    with echo_process() as server:
        yield server


@pytest_asyncio.fixture
async def client():
    client = McpClient()
    yield client
    await client.close()


@pytest_asyncio.fixture
async def faulty():
    server = FaultyServer()
    await server.start()
    yield server
    await server.stop()
