"""The ToolBox: names, schemas, concurrency, cancellation, result size."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, MalformedOutput, OutOfTime
from agentflow_verl.core.limits import Slots
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import FaultyServer, echo_process, soon


async def open_echo(echo, **options) -> ToolBox:
    return await ToolBox.open([ToolConfig(name="echo", urls=(echo.url,), **options)])


async def test_the_tools_keep_the_servers_order(echo):
    async with await open_echo(echo) as tools:
        assert [spec.name for spec in tools.specs[:3]] == ["echo", "note", "Slow_Tool"]


@pytest.mark.parametrize(
    "text",
    [
        *("Slow_Tool", "slow tool", "SLOWTOOL", " slow__tool\n", "Slow Tool ", "slow-tool"),
        *("slow_tool()", "the slow tool", "Use Slow_Tool", "slow_tool to wait", "slow.tool"),
        *("functions.slow_tool", "mcp__server__slow_tool", "slow_tool tool", "tools/slow_tool"),
    ],
)
async def test_a_models_spelling_of_a_name_is_understood(echo, text):
    async with await open_echo(echo) as tools:
        assert tools.resolve(text).name == "Slow_Tool"


@pytest.mark.parametrize(
    "text",
    ["", "slow", "tool", "slow_tools", "not slow_tool", "hammer (not slow_tool)", "echoes", "."],
)
async def test_only_the_whole_name_in_the_first_place_counts(echo, text):
    async with await open_echo(echo) as tools:
        assert tools.resolve(text) is None


async def test_wrong_arguments_and_unknown_tools_send_nothing(echo):
    calls = echo.state()["calls"]
    async with await open_echo(echo) as tools:
        with pytest.raises(
            MalformedOutput, match="echo: argument 'text' is missing, expected string"
        ):
            await tools.call("echo", {}, soon())
        with pytest.raises(
            MalformedOutput, match="no tool 'teleport'; the tools are echo, note, Slow_Tool"
        ):
            await tools.call("teleport", {}, soon())
    assert echo.state()["calls"] == calls


async def test_a_long_result_is_cut_with_a_mark(echo):
    async with await open_echo(echo, max_result_chars=200) as tools:
        result = await tools.call("echo", {"text": "0123456789", "times": 1000}, soon())
    assert len(result.text) <= 200
    assert result.truncated and result.text.endswith(" characters cut]")


async def test_a_tool_of_two_servers_is_a_config_error(echo):
    configs = [ToolConfig(name="one", urls=(echo.url,)), ToolConfig(name="two", urls=(echo.url,))]
    with pytest.raises(ConfigError, match="tool echo is listed by both one and two"):
        await ToolBox.open(configs)


async def test_replicas_that_differ_are_a_config_error(echo, faulty):
    with pytest.raises(ConfigError, match="differ in tools or version"):
        await ToolBox.open([ToolConfig(name="mixed", urls=(echo.url, faulty.url))])


async def test_a_server_elsewhere_gets_its_bearer_token_with_every_request_and_no_other_does(
    echo, faulty, monkeypatch
):
    monkeypatch.setenv("SEARCH_TOKEN", " s3cret\n")
    other = FaultyServer()
    await other.start()
    faulty.lists(name="search")
    configs = [
        ToolConfig(name="search", urls=(faulty.url,), token_env="SEARCH_TOKEN"),
        ToolConfig(name="other", urls=(other.url,)),
    ]
    async with await ToolBox.open(configs) as tools:
        await tools.call("search", {}, soon())
        await tools.call("echo", {}, soon())
    await other.stop()
    assert len(faulty.heads) == 3 and all(
        "Authorization: Bearer s3cret\r\n" in head for head in faulty.heads
    )
    assert len(other.heads) == 3 and not any("Authorization" in head for head in other.heads)


async def test_a_server_elsewhere_gets_the_headers_of_its_own(faulty):
    faulty.lists(name="search")
    config = ToolConfig(name="search", urls=(faulty.url,), headers={"X-Api-Key": "s3cret"})
    async with await ToolBox.open([config]) as tools:
        await tools.call("search", {}, soon())
    assert len(faulty.heads) == 3 and all("X-Api-Key: s3cret\r\n" in head for head in faulty.heads)
    assert "s3cret" not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize("token", [None, "", " ", "a\nb", "ä"])
async def test_a_missing_token_is_a_config_error_that_does_not_repeat_it(
    monkeypatch, faulty, token
):
    monkeypatch.delenv("SEARCH_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("SEARCH_TOKEN", token)
    with pytest.raises(
        ConfigError,
        match="server search: the environment variable SEARCH_TOKEN holds no usable token$",
    ):
        await ToolBox.open(
            [ToolConfig(name="search", urls=(faulty.url,), token_env="SEARCH_TOKEN")]
        )


async def test_tools_are_chosen_and_renamed_where_two_servers_have_the_same(echo):
    one = ToolConfig(name="one", urls=(echo.url,), tools={"echo": "say", "fail": "fail"})
    with echo_process() as other:
        two = ToolConfig(name="two", urls=(other.url,), tools=["echo"])
        async with await ToolBox.open([one, two]) as tools:
            assert [spec.name for spec in tools.specs] == ["say", "fail", "echo"]
            before = echo.state()["calls"]
            result = await tools.call("say", {"text": "hello"}, soon())
            assert (result.tool, result.text) == ("say", "hello")
            assert echo.state()["calls"] == before + 1
            assert (await tools.call("echo", {"text": "there"}, soon())).text == "there"
            assert tools.resolve("Slow_Tool") is None


async def test_chosen_tool_that_the_server_does_not_have_is_named(echo):
    config = ToolConfig(name="one", urls=(echo.url,), tools=["ecko"])
    with pytest.raises(ConfigError, match="agentflow.tools.one.tools: .*did you mean 'echo'"):
        await ToolBox.open([config])


@pytest.mark.parametrize("tools", [[], {"a": "x", "b": "x"}])
def test_choice_of_tools_names_each_once(tools):
    with pytest.raises(ValueError, match="at least one tool"):
        ToolConfig(name="one", urls=("http://x/mcp",), tools=tools)


async def test_an_embedded_server_needs_a_supervisor_first():
    with pytest.raises(ConfigError, match="tool server python_coder has no URL"):
        await ToolBox.open([ToolConfig(name="python_coder")])


async def test_no_more_calls_run_at_once_than_configured(echo):
    echo.state()
    async with await open_echo(echo, concurrency=3) as tools:
        results = await asyncio.gather(
            *(tools.call("Slow_Tool", {"seconds": 0.05}, soon()) for _ in range(12))
        )
    assert all(result.text == "slept" for result in results)
    assert echo.state()["most"] == 3


async def test_waiting_for_a_slot_ends_at_the_deadline(echo):
    async with await open_echo(echo, concurrency=1) as tools:
        await tools.call("Slow_Tool", {"seconds": 1}, soon())
        first = asyncio.ensure_future(tools.call("Slow_Tool", {"seconds": 1}, soon()))
        await asyncio.sleep(0.1)
        with pytest.raises(OutOfTime, match="no free slot"):
            await tools.call("echo", {"text": "x"}, Deadline.after(0.2))
        assert (await first).text == "slept"


async def test_waiting_for_a_slot_for_longer_than_the_server_ever_took_is_the_servers_fault(echo):
    async with await open_echo(echo, concurrency=1) as tools:
        await tools.call("echo", {"text": "x"}, soon())
        first = asyncio.ensure_future(tools.call("Slow_Tool", {"seconds": 8}, soon()))
        await asyncio.sleep(0.1)
        with pytest.raises(InfraError, match="no free slot"):
            await tools.call("echo", {"text": "x"}, Deadline.after(3))
        first.cancel()


async def test_a_cancelled_call_gives_its_slot_back(echo):
    async with await open_echo(echo, concurrency=1) as tools:
        call = asyncio.ensure_future(tools.call("Slow_Tool", {"seconds": 0.5}, soon()))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await tools.call("echo", {"text": "x"}, soon())).text == "x"


@pytest.mark.parametrize("seed", range(5))
async def test_slots_are_neither_lost_nor_doubled_under_cancellation(seed):
    chance, slots, held, most = random.Random(seed), Slots(3), 0, 0

    async def work(hold: float, patience: float) -> None:
        nonlocal held, most
        async with slots.one(Deadline.after(patience), "work"):
            held += 1
            most = max(most, held)
            try:
                await asyncio.sleep(hold)
            finally:
                held -= 1

    def some_time() -> float:
        return chance.choice([0, 0, 0.001, 0.002, 0.005])

    tasks = [asyncio.ensure_future(work(some_time(), some_time() * 20)) for _ in range(300)]
    for task in chance.sample(tasks, 100):
        await asyncio.sleep(some_time() / 5)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(
        outcome is None or isinstance(outcome, (OutOfTime, asyncio.CancelledError))
        for outcome in outcomes
    )
    assert (held, most) == (0, 3)
    async with slots.one(soon(), "a"), slots.one(soon(), "b"), slots.one(soon(), "c"):
        with pytest.raises(OutOfTime):
            async with slots.one(Deadline.after(0.01), "one too many"):
                pass


async def test_a_slot_granted_to_a_call_that_is_cancelled_at_that_moment_is_not_lost():
    slots = Slots(1)

    async def wait() -> None:
        async with slots.one(soon(), "wait"):
            pass

    async with slots.one(soon(), "hold"):
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
    waiting.cancel()  # the slot is already its own, it only has not run yet
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with slots.one(Deadline.after(0.1), "next"):
        pass


async def test_calls_spread_over_the_replicas(echo):
    while echo.state()["running"]:  # calls that earlier tests gave up
        await asyncio.sleep(0.05)
    with echo_process() as other:
        config = ToolConfig(name="echo", urls=(echo.url, other.url))
        async with await ToolBox.open([config]) as tools:
            await asyncio.gather(
                *(tools.call("Slow_Tool", {"seconds": 2.0}, soon()) for _ in range(8))
            )
        assert echo.state()["most"] == other.state()["most"] == 4


async def test_a_session_that_was_handed_in_stays_open(echo):
    async with aiohttp.ClientSession() as session:
        tools = await ToolBox.open([ToolConfig(name="echo", urls=(echo.url,))], session=session)
        await tools.close()
        assert not session.closed
