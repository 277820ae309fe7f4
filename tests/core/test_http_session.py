"""A server that was restarted between two requests is met on a new connection."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import http_session
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import EchoProcess, soon

SERVER = Path(__file__).parent / "stand_ins" / "chat_server.py"
QUESTION = [{"role": "user", "content": "?"}]


class ChatProcess:
    """The chat endpoint. Starting and stopping block the event loop, as a busy one is blocked: the
    client has not seen that its connection was closed when it sends again.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.port = 0

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.port), str(self.log), *options],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def requests(self) -> int:
        return self.log.read_text().count("\n")


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[ChatProcess]:
    server = ChatProcess(tmp_path / "requests")
    server.start()
    yield server
    server.stop()


async def test_endpoint_restarted_between_two_calls_answers_without_a_retry(
    chat: ChatProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_session.new_session() as session:
        config = EndpointConfig(base_url=chat.url, model="m", retries=0)
        engine = EndpointEngine("chat", config, session)
        for _ in range(3):
            reply = await engine.reply(QUESTION, trajectory="t", deadline=Deadline.after(20))
            assert reply.text == "fine"
            chat.stop()
            chat.start()
    assert chat.requests() == 3
    assert not caplog.records


@pytest.mark.parametrize(
    "changed", [{}, {"repeatable": False}], ids=["repeatable", "not repeatable"]
)
async def test_tool_server_restarted_between_two_calls_answers_at_the_first_attempt(
    changed: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EchoProcess()
    try:
        async with await ToolBox.open([ToolConfig(name="echo", urls=(server.url,))]) as tools:
            _declare(tools, monkeypatch, **changed)
            for number in range(3):
                result = await tools.call("echo", {"text": f"{number}"}, soon())
                assert (result.is_error, result.attempts) == (False, 1)
                server.kill()
                server = EchoProcess(port=server.port)
    finally:
        server.kill()


@pytest.mark.parametrize("kept", [1, 5])
async def test_all_kept_connections_of_a_server_that_restarted_may_be_stale(
    kept: int, chat: ChatProcess
) -> None:
    async with http_session.new_session() as session:
        held = [await http_session.post(session, chat.url, 20, data=b"") for _ in range(kept)]
        for one in held:
            async with one:
                await one.read()
        chat.stop()
        chat.start()
        async with await http_session.post(session, chat.url, 20, data=b"") as response:
            assert response.status == 200
    assert chat.requests() == kept + 1


async def test_single_use_session_sends_once_to_a_server_that_dies_over_the_request(
    chat: ChatProcess,
) -> None:
    chat.stop()
    chat.start("die")
    async with http_session.new_single_use_session() as session:
        async with await http_session.post(session, chat.url, 20, data=b"") as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http_session.post(session, chat.url, 20, data=b"")
    assert chat.requests() == 2


async def test_server_that_dies_over_a_request_on_a_new_connection_is_not_asked_again_here(
    chat: ChatProcess,
) -> None:
    chat.stop()
    chat.log.write_text("request\n")
    chat.start("die")
    async with http_session.new_session() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http_session.post(session, chat.url, 20, data=b"")
    assert chat.requests() == 2


def _declare(tools: ToolBox, monkeypatch: pytest.MonkeyPatch, **changed: bool) -> None:
    """Have the box take its tools for what the server did not say of them."""
    specs = {name: replace(spec, **changed) for name, spec in tools._specs.items()}
    monkeypatch.setattr(tools, "_specs", specs)
