"""The command line as a whole: what it prints where something is missing, taken or interrupted."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl import __version__
from agentflow_verl.cli.main import COMMANDS, main
from tests.engines.model_folders import write_model
from tests.evaluation.fakes import endpoint
from tests.view.logs import scored, trajectory, write

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_A_LIGHT_INSTALL = (
    "datasets",
    "hydra",
    "pyarrow",
    "ray",
    "tensordict",
    "tokenizers",
    "torch",
    "transformers",
    "verl",
    "vllm",
)


def in_a_light_install(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process in which each of these packages raises on import."""
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {NOT_IN_A_LIGHT_INSTALL!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from agentflow_verl.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"agentflow_verl {__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_a_parser_is_built_without_importing_the_commands():
    program = (
        "import sys\n"
        "from agentflow_verl.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('agentflow_verl.')))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == str(
        [
            "agentflow_verl.cli",
            "agentflow_verl.cli.main",
            "agentflow_verl.core",
            "agentflow_verl.core.errors",
            "agentflow_verl.core.private_files",
        ]
    )


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "doctor"])
def test_a_command_is_loaded_in_a_light_install(command):
    run = in_a_light_install(command, "--help")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"usage: agentflow {command}")


def test_a_model_folder_without_vllm_names_the_extra(tmp_path):
    write_model(tmp_path)
    run = in_a_light_install("solve", "Why?", "--model", str(tmp_path))
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "pip install 'agentflow_verl[vllm]'" in run.stderr


def test_doctor_without_verl_names_what_to_install():
    run = in_a_light_install("doctor", "platform=cpu")
    assert run.returncode in (1, 2)
    assert "Traceback" not in run.stderr + run.stdout
    assert "install" in run.stderr + run.stdout


def test_an_endpoint_is_asked_before_a_tool_server_is_started(tmp_path, capsys, monkeypatch):
    started = []
    monkeypatch.setattr(
        "agentflow_verl.evaluation.session.Supervisor", lambda *given: started.append(given)
    )
    assert main(["solve", "Why?", "--endpoint", "http://127.0.0.1:9/v1"]) == 2
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1 does not answer" in error and error.count("\n") == 1
    assert not started


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys):
    (tmp_path / "train").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(tmp_path), "--serve", "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"agentflow view: --port {port}: is taken; choose another one, or 0 for a free one\n"
    )


@pytest.mark.parametrize("port", [-1, 65_536, 10**30])
def test_a_port_that_is_none_is_one_line(tmp_path, capsys, port):
    (tmp_path / "train").mkdir()
    assert main(["view", str(tmp_path), "--serve", "--port", str(port)]) == 2
    assert f"--port {port}" in capsys.readouterr().err


def test_control_c_in_solve_is_one_line(tmp_path):
    """The endpoint never answers: the command waits for it when the signal comes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow_verl.cli.main", "solve", "Why?", "--endpoint", url],
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        silent.accept()
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (130, "agentflow solve: stopped\n")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("solve", "Why?", "--endpoint", "{url}", "--tool", "echo={url}", "--json"), "--json"),
        (("view", "{run}", "--out"), "--out"),
        (("eval", "--compare", "{run}", "{run}", "--out"), "--out"),
        (("analyse", "tools", "{run}", "--out"), "--out"),
    ],
)
def test_output_that_cannot_be_written_is_found_before_the_work(tmp_path, capsys, words, option):
    run, blocker = tmp_path / "run", tmp_path / "a file"
    (run / "train").mkdir(parents=True)
    blocker.touch()
    with endpoint() as model:
        given = [word.format(run=run, url=model.url) for word in words]
        assert main([*given, str(blocker / "below" / "page.html")]) == 2
        assert not model.bodies
    error = capsys.readouterr().err
    assert f"{option} {blocker}" in error and "cannot be written" in error, error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.jsonl", '{"question": "Qu\'est-ce que c\'est, un été ?"}\n'.encode("latin-1")),
        ("log.json", b"\xff\xfe{\x00}\x00"),
        ("log.json", b"[]"),
        ("log.jsonl", b"{}\n"),
    ],
)
def test_a_file_that_holds_no_trajectories_is_one_line(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert main(["replay", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error and error.count("\n") == 1


def test_a_reader_that_has_had_enough_is_no_error(tmp_path):
    """As ``agentflow … | head -0``: the pipe is closed before anything is written."""
    program = (
        "import sys, time; time.sleep(0.5)\n"
        "from agentflow_verl.cli import main as cli\n"
        "class Talks:\n"
        "    def load(self, parser): parser.set_defaults(run=self.run)\n"
        "    def run(self, options):\n"
        "        print('x' * 100000, flush=True); return 0\n"
        "    summary = ''\n"
        "cli.COMMANDS = {'talk': Talks()}\n"
        "sys.exit(cli.main(['talk']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    process.stdout.close()
    error = process.stderr.read()
    assert (process.wait(60), error) == (0, b"")


@pytest.mark.parametrize(("words", "mode"), [((), 0o600), (("--umask", "022"), 0o644)])
def test_what_a_command_writes_is_its_users_alone_unless_told_otherwise(tmp_path, words, mode):
    write(tmp_path / "run", scored(trajectory()))
    page = tmp_path / "pages" / "view.html"
    umask = os.umask(0o022)
    try:
        assert main([*words, "view", str(tmp_path / "run"), "--out", str(page)]) == 0
        assert os.umask(umask) == 0o022, "the caller's umask is restored"
    finally:
        os.umask(umask)
    assert stat.S_IMODE(page.stat().st_mode) == mode
    assert stat.S_IMODE(page.parent.stat().st_mode) == mode | 0o100 | (mode & 0o044) >> 2


@pytest.mark.parametrize("umask", ["8", "22", "999", "-22", "u=rw"])
def test_an_umask_that_is_none_is_refused(umask, capsys):
    with pytest.raises(SystemExit):
        main([f"--umask={umask}", "view", "run"])
    assert "three octal digits" in capsys.readouterr().err
