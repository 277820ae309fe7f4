"""The shipped prompt templates are written out as they are, and never over a user's own."""

from __future__ import annotations

from agentflow_verl.cli.main import main
from agentflow_verl.flow import prompts
from agentflow_verl.flow.modules import MODULES


def test_every_modules_template_is_written_out(tmp_path, capsys):
    folder = tmp_path / "prompts"
    assert main(["prompts", str(folder)]) == 0
    assert sorted(path.stem for path in folder.iterdir()) == sorted(MODULES)
    assert len(capsys.readouterr().out.splitlines()) == len(MODULES)
    for module in MODULES:
        text = (folder / f"{module}.md").read_text(encoding="utf-8")
        assert prompts.load(module).system.template in text
        assert prompts.load(module).user.template in text


def test_a_template_that_is_there_is_kept(tmp_path, capsys):
    (tmp_path / "planner.md").write_text("mine")
    assert main(["prompts", str(tmp_path)]) == 2
    assert "planner.md is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["planner.md"]
    assert (tmp_path / "planner.md").read_text() == "mine"
