"""The log of a run is its owner's alone, unless an umask says otherwise."""

from __future__ import annotations

import os
import stat

import pytest

from agentflow_verl.config import schema
from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import parse_umask
from agentflow_verl.trajectories.log import TrajectoryLog
from agentflow_verl.trajectories.manifest import Setup
from tests.view.logs import scored, trajectory


def modes(folder) -> dict[str, set[int]]:
    """The modes of everything below a folder, and of itself."""
    found: dict[str, set[int]] = {"files": set(), "folders": set()}
    for path in (folder, *folder.rglob("*")):
        kind = "folders" if path.is_dir() else "files"
        found[kind].add(stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("umask", "files", "folders"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)]
)
def test_files_and_folders_of_a_log(tmp_path, usual_umask, umask, files, folders):
    log = TrajectoryLog(tmp_path / "run" / "trajectories", umask)
    Setup(limits=Limits(), tools=()).save(log.folder, umask)
    log.write(scored(trajectory()))
    found = modes(tmp_path / "run")
    assert found["folders"] == {folders}
    (line,) = log.folder.glob("train/*/*.jsonl")
    assert stat.S_IMODE(line.stat().st_mode) == files


def test_private_is_the_default(tmp_path, usual_umask):
    log = TrajectoryLog(tmp_path / "trajectories")
    log.write(scored(trajectory()))
    assert modes(log.folder) == {"files": {0o600}, "folders": {0o700}}
    assert parse_umask(schema.load({"tools": {"python_coder": {}}}).umask) == 0o077


@pytest.mark.parametrize("umask", ["7", "abc", "0999", 22])
def test_an_umask_that_is_none_is_refused(umask):
    with pytest.raises(ConfigError, match="agentflow.umask"):
        schema.load({"tools": {"python_coder": {}}, "umask": umask})
