"""The supervisor with real processes: start, restart on the same URL, stop, nobody left behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded import server_process as process_module
from agentflow_verl.tools.embedded import supervisor as supervisor_module
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import ECHO_SERVER, alive, embedded, get, soon, wait_until

ROOT = Path(__file__).parents[3]
BAD = ToolConfig(
    name="bad",
    command=(sys.executable, "-c", "import sys; sys.exit('no index file: prepare it first')"),
)
MUTE = ToolConfig(name="mute", command=(sys.executable, "-c", "import time; time.sleep(60)"))


def port_of(config: ToolConfig) -> int:
    return int(config.urls[0].rpartition(":")[2].removesuffix("/mcp"))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_embedded_servers_are_started_used_and_stopped():
    elsewhere = ToolConfig(name="elsewhere", urls=("http://127.0.0.1:9/mcp",))
    with Supervisor([embedded(concurrency=5), elsewhere]) as supervisor:
        config, unchanged = supervisor.configs
        assert (config.name, config.concurrency, config.embedded) == ("echo", 5, False)
        assert unchanged is elsewhere
        pid = supervisor.pids["echo"]
        async with await ToolBox.open([config]) as tools:
            assert (await tools.call("echo", {"text": "hello"}, soon())).text == "hello"
    assert not alive(pid)
    supervisor.stop()


async def test_a_server_that_dies_comes_back_at_the_same_url_and_is_used_again():
    with Supervisor([embedded()]) as supervisor:
        (config,) = supervisor.configs
        async with await ToolBox.open([config]) as tools:
            os.kill(supervisor.pids["echo"], signal.SIGKILL)
            wait_until(lambda: supervisor.restarts["echo"] == 1, "it is restarted")
            wait_until(lambda: get(port_of(config), "/healthz"), "it answers")
            assert supervisor.configs == (config,)
            assert (await tools.call("echo", {"text": "again"}, soon())).text == "again"


def test_a_server_that_hangs_is_killed_and_restarted(monkeypatch):
    monkeypatch.setattr(process_module, "HEALTH_TIMEOUT_S", 0.5)
    with Supervisor([embedded()], health_every_s=0.1, hung_after_s=0.2) as supervisor:
        pid = supervisor.pids["echo"]
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: supervisor.restarts["echo"] == 1, "it is restarted")
        assert not alive(pid)
        wait_until(lambda: get(port_of(supervisor.configs[0]), "/healthz"), "it answers")


def test_restarts_are_bounded_and_said_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(supervisor_module, "RESTARTS_PER_WINDOW", 1)
    with Supervisor([embedded("echo", "--say", "about to work")]) as supervisor:
        os.kill(supervisor.pids["echo"], signal.SIGKILL)
        wait_until(lambda: supervisor.restarts["echo"] == 1, "the first restart")
        wait_until(lambda: get(port_of(supervisor.configs[0]), "/healthz"), "it answers")
        pid = supervisor.pids["echo"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(deaths(caplog)) == 2, "the second death is noticed")
        assert not alive(pid)
        assert supervisor.restarts["echo"] == 1
    assert "was killed by signal 9" in deaths(caplog)[0]
    assert "about to work" in deaths(caplog)[0]
    assert float(deaths(caplog)[1].rpartition("restart in ")[2].removesuffix(" s")) > 30


def deaths(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_failed_start_is_one_config_error_with_the_servers_last_words_and_stops_the_others():
    supervisor = Supervisor([embedded("good"), BAD])
    with pytest.raises(ConfigError) as caught:
        supervisor.start()
    assert "tool server bad did not start: exited with status 1" in str(caught.value)
    assert "no index file: prepare it first" in str(caught.value)
    assert not alive(supervisor.pids["good"])


def test_the_last_words_come_from_the_log_file_where_there_is_one(tmp_path):
    folder = tmp_path / "logs"
    for _ in range(2):
        with pytest.raises(ConfigError, match="no index file") as caught:
            Supervisor([BAD], log_dir=folder).start()
        assert str(caught.value).count("no index file") == 1
    assert (folder / "bad.log").read_text().count("no index file") == 2


def test_a_server_that_never_listens_runs_into_the_start_timeout():
    supervisor = Supervisor([MUTE], start_timeout_s=0.5)
    with pytest.raises(ConfigError, match=r"tool server mute did not start: no answer after 0.5 s"):
        supervisor.start()
    assert not alive(supervisor.pids["mute"])


def test_a_program_that_does_not_exist_is_a_config_error():
    with pytest.raises(ConfigError, match="cannot run /no/such/program"):
        Supervisor([ToolConfig(name="x", command=("/no/such/program",))]).start()


def test_two_servers_of_one_name_are_a_config_error():
    with pytest.raises(ConfigError, match="lists server echo twice"):
        Supervisor([embedded(), embedded()])


async def test_a_server_sees_only_the_environment_it_is_given(monkeypatch):
    monkeypatch.setenv("SEARCH_KEY", "k")
    monkeypatch.setenv("OTHER_SECRET", "s")
    with Supervisor([embedded(env=("SEARCH_KEY", "NOT_SET"))]) as supervisor:
        async with await ToolBox.open(supervisor.configs) as tools:
            names = json.loads((await tools.call("environment", {}, soon())).text)
    assert "SEARCH_KEY" in names
    # LC_CTYPE: CPython sets it for itself (PEP 538).
    assert set(names) <= {"PATH", "HOME", "LANG", "PYTHONPATH", "SEARCH_KEY", "LC_CTYPE"}


def test_a_server_that_ignores_sigterm_is_killed_with_its_helpers(monkeypatch):
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 0.5)
    supervisor = Supervisor([embedded("echo", "--ignore-sigterm", "--helper")])
    supervisor.start()
    pid = supervisor.pids["echo"]
    (helper,) = children_of(pid)
    supervisor.stop()
    assert not alive(pid)
    wait_until(lambda: not alive(helper), "the helper is gone", 5)


def test_helpers_of_a_server_that_died_go_with_it():
    with Supervisor([embedded("echo", "--helper")]) as supervisor:
        pid = supervisor.pids["echo"]
        (helper,) = children_of(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: supervisor.restarts["echo"] == 1, "it is restarted")
        wait_until(lambda: not alive(helper), "the old helper is gone", 5)


def test_servers_outlive_the_thread_that_started_them():
    supervisor = Supervisor([embedded()])
    thread = threading.Thread(target=supervisor.start)
    thread.start()
    thread.join()
    try:
        (config,) = supervisor.configs
        with (
            pytest.raises(TimeoutError),
            socket.create_connection(("127.0.0.1", port_of(config))) as connection,
        ):
            connection.settimeout(0.5)
            connection.recv(1)  # a server that dies now would close the connection
        assert supervisor.restarts == {"echo": 0}
    finally:
        supervisor.stop()


SUPERVISING = f"""
import json, signal, sys, time
# A shell has it ignored in what it starts with &.
signal.signal(signal.SIGINT, signal.default_int_handler)
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.tools.embedded.supervisor import Supervisor
command = ({sys.executable!r}, {ECHO_SERVER!r})
supervisor = Supervisor([ToolConfig(name="echo", command=command, args=("--helper",))])
supervisor.start()
print(json.dumps(supervisor.pids["echo"]), flush=True)
END
"""


def supervising(end: str) -> tuple[subprocess.Popen, int]:
    """A process with a supervisor and its server's pid."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = SUPERVISING.replace("END", end)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    )
    return process, int(process.stdout.readline())


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name
)
def test_no_server_outlives_a_supervising_process_that_is_killed(number):
    process, pid = supervising("time.sleep(60)")
    with process:
        everybody = psutil.Process(process.pid).children(recursive=True)
        assert (
            pid in {child.pid for child in everybody} and len(everybody) == 3
        )  # the server, its helper, the guard
        process.send_signal(number)
        process.wait(10)
        gone, left = psutil.wait_procs(everybody, timeout=10)
    assert not left


def test_a_process_that_forgets_to_stop_its_supervisor_still_ends_cleanly():
    process, pid = supervising("")
    with process:
        assert process.wait(15) == 0
        assert not alive(pid)
