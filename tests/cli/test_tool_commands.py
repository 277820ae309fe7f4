"""``agentflow tools``: servers started and ended together by one command, and listed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agentflow_verl.cli import tools as tool_commands
from agentflow_verl.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
UP = [sys.executable, "-m", "agentflow_verl.cli.main", "tools", "up"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"title": "Paris", "text": "Paris is the capital of France."}))
    nodes = {
        "wikipedia_search": {"args": ["--corpus", str(corpus)]},
        "second": {
            "command": [sys.executable, "-m", "tool_servers.wikipedia_search"],
            "args": ["--corpus", str(corpus), "--workers", "2"],
        },
        "broken": {
            "command": [sys.executable, "-m", "tool_servers.wikipedia_search"],
            "args": ["--corpus", str(tmp_path / "none")],
        },
    }
    file = tmp_path / "tools.yaml"
    file.write_text(yaml.safe_dump(nodes))
    return file


@pytest.fixture
def up(config: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, dict, str]]:
    """The command, running, with its lines as YAML and as text."""
    line = [*UP, "--config", str(config), "--logs", str(tmp_path / "logs")]
    process = subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    said = ""
    end = time.monotonic() + 90
    while said.count("\n") < 3 and time.monotonic() < end:
        if select.select([process.stdout], [], [], 1)[0]:
            said += os.read(process.stdout.fileno(), 65_536).decode() or pytest.fail("it ended")
    yield process, yaml.safe_load(said), said
    process.kill()
    process.wait()
    process.stdout.close()


def test_addresses_stand_as_configuration_and_what_cannot_start_is_a_comment(up) -> None:
    process, nodes, said = up
    assert set(nodes) == {"wikipedia_search", "second"}
    listed = list(
        tool_commands.list_tools([url for node in nodes.values() for url in node["urls"]])
    )
    assert [line.split("  ")[0] for line in listed if not line.startswith(" ")] == [
        "wikipedia_search(query)"
    ] * 2
    (comment,) = [line for line in said.splitlines() if line.startswith("#")]
    assert "broken did not start" in comment and "none cannot be read" in comment


def test_token_of_the_environment_is_demanded_by_the_servers_and_sent_by_the_list(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tool_commands.TOKEN, "a-token-of-the-tests-0123456789")
    process = subprocess.Popen(
        [*UP, "wikipedia_search", "--config", str(config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        (node,) = yaml.safe_load(process.stdout.readline()).values()
        assert node["token_env"] == tool_commands.TOKEN
        assert next(tool_commands.list_tools(node["urls"])).startswith("wikipedia_search(query)")
        monkeypatch.delenv(tool_commands.TOKEN)
        with pytest.raises(ConfigError, match="401"):
            list(tool_commands.list_tools(node["urls"]))
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_servers_end_with_the_command(up, how: signal.Signals) -> None:
    process, nodes, _ = up
    before = {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and is_below(int(entry.name), process.pid)
    }
    assert len(before) >= 4  # one server alone, one of two workers, and what guards them
    process.send_signal(how)
    assert process.wait(20) == (0 if how != signal.SIGKILL else -9)
    end = time.monotonic() + 10
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in before):
        time.sleep(0.05)
    assert not [pid for pid in before if Path(f"/proc/{pid}").exists()]


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


def test_named_server_that_does_not_start_ends_the_others(config: Path) -> None:
    line = [*UP, "--config", str(config), "broken", "wikipedia_search"]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and ended.stdout == ""
    assert "agentflow tools: tool server broken did not start" in ended.stderr


@pytest.mark.parametrize(
    ("text", "names", "says"),
    [
        ("a: {argz: []}", (), "agentflow.tools.a.argz: unknown key"),
        ("a: {args: [", (), "cannot be read"),
        ("[1]", (), "expected the names of tool servers"),
        ("a: {urls: [nonsense]}", (), "give the MCP endpoint"),
        ("a: {}", ("b",), "no tool server is called 'b'; the names are a"),
    ],
)
def test_wrong_file_or_name_is_said(
    tmp_path: Path, text: str, names: tuple[str, ...], says: str
) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        tool_commands.server_configs(names, str(file))


def test_without_a_file_our_own_five_are_meant() -> None:
    configs = tool_commands.server_configs((), None)
    assert [config.name for config in configs] == list(tool_commands.BUILT_IN)
    assert all((ROOT / "tool_servers" / config.name / "__main__.py").exists() for config in configs)
    with pytest.raises(ConfigError, match="no tool server is called 'bing'"):
        tool_commands.server_configs(("bing",), None)
