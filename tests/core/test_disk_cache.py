"""The cache of results: only of pure tools, keyed by everything that shapes an answer, never in the
way.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import disk_cache as module
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache, digest_of
from agentflow_verl.core.errors import ConfigError, InfraError
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.tools import tool_client
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.faults import status_500
from tests.tools.servers import FaultyServer, send_result, soon

ROOT = Path(__file__).parents[2]
PURE = {"_meta": {"agentflow/cacheable": True}}
NAME = digest_of({"a": 1})


@pytest.fixture
def search(faulty, monkeypatch):
    """A server whose tool is pure; ``search.calls`` counts what reached it."""
    faulty.lists(**PURE)
    monkeypatch.setattr(module, "PATIENCE_S", 5.0)  # the disk of a busy machine
    return faulty


async def ask(server: FaultyServer, folder: Path, arguments: dict | None = None, **options):
    """One call through a ToolBox of its own: nothing but the folder is shared."""
    config = ToolConfig(name="search", urls=(server.url,), cache_dir=str(folder), **options)
    async with await ToolBox.open([config]) as tools:
        return await tools.call("echo", arguments or {"q": "x"}, soon())


async def test_a_result_is_kept_for_whoever_asks_the_same(search, tmp_path):
    first, second = [await ask(search, tmp_path) for _ in range(2)]
    assert (first.text, first.attempts, second.text, second.attempts) == ("fine", 1, "fine", 0)
    assert search.calls == 1


async def test_the_order_of_arguments_does_not_matter_their_values_and_types_do(search, tmp_path):
    different = [
        {"q": 1, "k": 2},
        {"q": 2, "k": 1},
        {"q": "1", "k": 2},
        {"q": 1.5, "k": 2},
        {"q": True, "k": 2},
        {"q": 1},
    ]
    for arguments in different:
        await ask(search, tmp_path, arguments)
        await ask(search, tmp_path, dict(reversed(arguments.items())))
    assert search.calls == len(different)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "another"},
        {"inputSchema": {"type": "object", "title": "another"}},
        {"_meta": {"agentflow/cacheable": True, "agentflow/notes": "another"}},
        {"_meta": {"agentflow/cacheable": True, "agentflow/fingerprint": "another"}},
    ],
)
async def test_a_server_that_lists_its_tool_differently_is_another_server(search, tmp_path, change):
    await ask(search, tmp_path)
    search.lists(**{**PURE, **change})
    await ask(search, tmp_path)
    assert search.calls == 2


async def test_another_version_of_the_server_is_another_server(search, tmp_path):
    for version in ("1", "2", "2"):
        info = {
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "search", "version": version}}
        }
        search.lists_like({"tools": [{"name": "echo", "inputSchema": {}, **PURE}], **info})
        await ask(search, tmp_path)
    assert search.calls == 2


@pytest.mark.parametrize(("edition", "calls"), [("corpus of May", 0), ("", 1)])
async def test_only_an_edition_makes_a_server_at_another_url_the_same(
    search, tmp_path, edition, calls
):
    tool = {"_meta": {"agentflow/cacheable": True, "agentflow/fingerprint": edition}}
    replica = FaultyServer()
    await replica.start()
    try:
        search.lists(**tool)
        replica.lists(**tool)
        await ask(search, tmp_path)
        await ask(replica, tmp_path)
    finally:
        await replica.stop()
    assert replica.calls == calls


@pytest.mark.parametrize(
    ("listed", "options", "cached"),
    [
        (PURE, {}, True),
        (PURE, {"cacheable": False}, False),
        ({}, {}, False),
        ({}, {"cacheable": True}, True),
        (
            {"annotations": {"readOnlyHint": True}},
            {},
            False,
        ),  # the time of day changes nothing, and changes
        ({"annotations": {"readOnlyHint": True}}, {"cacheable": True}, True),
        ({"annotations": {"readOnlyHint": False}}, {"cacheable": True}, False),
        ({"annotations": {"readOnlyHint": False}, **PURE}, {}, False),
    ],
)
async def test_who_decides_what_is_pure(faulty, tmp_path, listed, options, cached):
    faulty.lists(**listed)
    for _ in range(2):
        await ask(faulty, tmp_path, **options)
    assert faulty.calls == (1 if cached else 2)


async def test_without_a_folder_nothing_is_kept(search):
    config = ToolConfig(name="search", urls=(search.url,))
    async with await ToolBox.open([config]) as tools:
        assert [(await tools.call("echo", {}, soon())).attempts for _ in range(2)] == [1, 1]


async def test_errors_are_not_kept(search, tmp_path, monkeypatch):
    async def refuse(writer, request_id):
        send_result(
            writer,
            request_id,
            {"isError": True, "content": [{"type": "text", "text": "try later"}]},
        )

    monkeypatch.setattr(tool_client, "RETRY", RetryPolicy(first_pause_s=0.01))
    search.faults = [refuse, *[status_500] * 3]
    assert (await ask(search, tmp_path)).is_error
    with pytest.raises(InfraError):
        await ask(search, tmp_path)
    assert (await ask(search, tmp_path)).text == "fine"


async def test_a_result_is_kept_whole_and_cut_for_each_reader(search, tmp_path):
    async def long(writer, request_id):
        send_result(writer, request_id, {"content": [{"type": "text", "text": "0123456789" * 100}]})

    search.faults = [long]
    assert (await ask(search, tmp_path, max_result_chars=100)).truncated
    whole = await ask(search, tmp_path, max_result_chars=5000)
    assert (whole.text, whole.truncated, whole.attempts) == ("0123456789" * 100, False, 0)


@pytest.mark.parametrize(
    "damage", [b"", b"\n", b"{}", b"x" * 64 + b"\nfine", bytes(range(256)), None]
)
async def test_a_damaged_entry_is_asked_for_again(search, tmp_path, caplog, damage):
    await ask(search, tmp_path)
    (entry,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    assert [(await ask(search, tmp_path)).text for _ in range(2)] == ["fine", "fine"]
    assert search.calls == 2
    assert "is damaged and was removed" in caplog.text


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(), st.binary(max_size=5), st.floats(0, 1), st.integers(0, 5))
def test_no_damage_gives_another_text(tmp_path, text, bytes_, where, removed):
    async def run() -> None:
        cache = ResultCache(tmp_path)
        cache.put(NAME, text)
        await cache.close()
        entry = tmp_path / NAME[:2] / NAME
        if entry.exists():  # half a surrogate pair is not kept
            kept = entry.read_bytes()
            at = int(where * len(kept))
            entry.write_bytes(kept[:at] + bytes_ + kept[at + removed :])
            cache = ResultCache(tmp_path)
            assert await cache.get(NAME, soon()) in (None, text)
            await cache.close()

    asyncio.run(run())


async def test_an_entry_under_the_wrong_name_is_a_miss(tmp_path):
    cache, other = ResultCache(tmp_path), digest_of({"a": 2})
    cache.put(NAME, "of a")
    await asyncio.sleep(0.2)
    (tmp_path / other[:2]).mkdir(exist_ok=True)
    (tmp_path / NAME[:2] / NAME).rename(tmp_path / other[:2] / other)
    assert await cache.get(other, soon()) is None
    await cache.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache, digest_of
async def run():
    cache, hits = ResultCache(Path(sys.argv[1])), 0
    for round_ in range(40):
        for number in range(10):
            name, text = digest_of({"n": number}), str(number) * 50_000
            found = await cache.get(name, Deadline.after(60))
            assert found in (None, text), number
            hits += found is not None
            cache.put(name, text)
    await cache.close()
    assert hits
asyncio.run(run())
"""


def test_processes_that_share_a_folder_do_not_disturb_each_other(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(4)]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == b""
        assert writer.returncode == 0
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 10


def test_a_folder_that_cannot_be_used_is_a_config_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cache_dir .*file.* cannot be used"):
        ResultCache(tmp_path / "file")


async def test_a_folder_that_goes_away_costs_only_the_cache(search, tmp_path, caplog):
    folder = tmp_path / "cache"
    config = ToolConfig(name="search", urls=(search.url,), cache_dir=str(folder))
    async with await ToolBox.open([config]) as tools:
        folder.rmdir()
        folder.touch()
        assert [(await tools.call("echo", {}, soon())).text for _ in range(5)] == ["fine"] * 5
    assert caplog.text.count("does not work; calls go on without it") == 1


async def test_a_disk_that_hangs_holds_up_no_call(search, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(ResultCache, "_read", lambda *_: release.wait(30))
    config = ToolConfig(name="search", urls=(search.url,), cache_dir=str(tmp_path))
    try:
        async with await ToolBox.open([config]) as tools:
            started = time.monotonic()
            assert (await tools.call("echo", {}, soon())).text == "fine"
            assert time.monotonic() - started < 10
        assert time.monotonic() - started < 15
    finally:
        release.set()


async def test_a_lookup_ends_at_the_deadline(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(ResultCache, "_read", lambda *_: release.wait(30))
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    cache = ResultCache(tmp_path)
    started = time.monotonic()
    assert await cache.get(NAME, Deadline.after(0.1)) is None
    assert 0.09 < time.monotonic() - started < 10
    release.set()
    await cache.close()


async def test_over_its_size_the_oldest_entries_go_and_abandoned_drafts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 400_000)
    old, young = tmp_path / "old.draft", tmp_path / "young.draft"
    old.touch()
    os.utime(old, (0, 0))
    young.touch()
    cache = ResultCache(tmp_path)
    names = [digest_of({"n": number}) for number in range(200)]
    for name in names:
        cache.put(name, "x" * 8000)
        await asyncio.sleep(0.005)
    while cache._unwritten:
        await asyncio.sleep(0.01)
    kept = [name for name in names if (tmp_path / name[:2] / name).exists()]
    await cache.close()
    assert 20 <= len(kept) <= 60
    assert names[-1] in kept and names[0] not in kept
    assert young.exists() and not old.exists()


async def test_no_thread_is_left(search, tmp_path):
    before = set(threading.enumerate())
    await ask(search, tmp_path)
    assert set(threading.enumerate()) <= before
