"""A run's folder is read once, and what was appended since is read when asked."""

from __future__ import annotations

import json
import logging

import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.resilience.log_rollback import set_aside_groups, set_aside_steps
from agentflow_verl.trajectories.run_folder import Run
from tests.view.logs import RUN, lines, scored, tokenizer, trajectory, write


def opened(folder):
    run = Run(folder)
    run.refresh()
    return run


def test_every_line_of_the_log_is_an_entry_that_finds_its_line_again():
    run = opened(RUN)
    logged = {(line["group"], line["session"]): line for line in lines()}
    assert len(run.entries) == len(logged) == 32
    for entry in run.entries:
        line = logged[entry.group, entry.session]
        assert entry.read().trajectory.id == line["trajectory"]["id"]
        assert (entry.step, entry.split, entry.reward, entry.outcome.value) == (
            line["step"],
            line["split"],
            line["reward"],
            line["trajectory"]["outcome"],
        )
        assert entry.tokens == sum(
            len(turn["tokens"]["response_ids"]) for turn in line["trajectory"]["turns"]
        )


def test_the_trajectory_folder_itself_will_do():
    run = opened(RUN / "trajectories")
    assert len(run.entries) == 32
    assert run.name == "run-0"


def test_metrics_of_the_file_logger_become_curves():
    curves = opened(RUN).curves
    assert sorted(curves["agentflow/success"]) == [1, 2, 12, 24]
    assert curves["agentflow/success"][1] == 0.28125


def test_only_what_is_new_is_read(tmp_path):
    row = scored(trajectory())
    run = opened(write(tmp_path, row))
    assert not run.refresh()
    write(tmp_path, scored(trajectory(), session=1))
    assert run.refresh()
    assert [entry.session for entry in run.entries] == [0, 1]
    assert run.entries[1].read().session == 1


def test_what_a_resumed_run_set_aside_is_forgotten(tmp_path):
    run = opened(write(tmp_path, *(scored(trajectory(), step=step) for step in (4, 5))))
    set_aside_steps(tmp_path / "trajectories", step=4, validates=False)
    assert run.refresh()
    assert [entry.step for entry in run.entries] == [4]
    write(tmp_path, scored(trajectory("Again?"), step=5))
    assert run.refresh()
    assert [entry.read().trajectory.query for entry in run.entries[1:]] == ["Again?"]
    assert not run.refresh()


def test_a_log_that_was_written_again_is_read_again(tmp_path):
    kept, again = scored(trajectory("Kept?"), group="b"), scored(trajectory("Again?"), group="a")
    run = opened(write(tmp_path, again, kept))
    assert set_aside_groups(tmp_path / "trajectories", {"a"}) == 1
    assert run.refresh()
    assert [entry.read().trajectory.query for entry in run.entries] == ["Kept?"]


def test_steps_that_a_resumed_run_made_again_have_its_metrics_alone(tmp_path):
    def metrics(name, *steps):
        lines = [json.dumps({"step": step, "data": data}) for step, data in steps]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    write(tmp_path, scored(trajectory()))
    metrics("metrics-1.jsonl", (4, {"loss": 1.0}), (5, {"loss": 2.0, "only at first": 3.0}))
    run = opened(tmp_path)
    # The checkpoint is step 4's, to which the resumed run adds its validation.
    metrics("metrics-2.jsonl", (4, {"val-core/x": 0.5}), (5, {"loss": 2.5, "second": 1.0}))
    assert run.refresh()
    assert run.curves == {
        "loss": {4: 1.0, 5: 2.5},
        "val-core/x": {4: 0.5},
        "second": {5: 1.0},
    }
    # Or none, and begins with the first step that it makes again.
    metrics("metrics-3.jsonl", (5, {"loss": 2.7}))
    assert run.refresh()
    assert run.curves == {"loss": {4: 1.0, 5: 2.7}, "val-core/x": {4: 0.5}}


def test_a_line_that_is_still_being_written_waits(tmp_path):
    run = opened(write(tmp_path, scored(trajectory())))
    (file,) = tmp_path.glob("trajectories/train/*/*.jsonl")
    line = scored(trajectory("Zoë?"), session=1).model_dump_json() + "\n"
    half = line.encode().index("ë".encode()) + 1  # in the middle of a letter
    with file.open("ab") as out:
        out.write(line.encode()[:half])
    assert not run.refresh()
    with file.open("ab") as out:
        out.write(line.encode()[half:])
    assert run.refresh()
    assert run.entries[1].query == "Zoë?"


def test_a_broken_line_is_named_and_left_out(tmp_path, caplog):
    write(tmp_path, scored(trajectory()))
    (file,) = tmp_path.glob("trajectories/train/*/*.jsonl")
    with file.open("a") as out:
        out.write('{"step": 1}\n')
    with caplog.at_level(logging.WARNING):
        run = opened(tmp_path)
    assert len(run.entries) == 1
    assert file.name in caplog.text


def test_other_lines_beside_the_metrics_are_left_out(tmp_path, caplog):
    write(tmp_path, scored(trajectory()))
    (tmp_path / "notes.jsonl").write_text('[1]\n{"step": 2, "data": {"a": 1.5, "b": "text"}}\n')
    with caplog.at_level(logging.WARNING):
        run = opened(tmp_path)
    assert run.curves == {"a": {2: 1.5}}
    assert "notes.jsonl" in caplog.text


def test_the_config_is_what_hydra_wrote(tmp_path):
    assert opened(tmp_path).config == {}
    config = tmp_path / "hydra" / ".hydra" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("algorithm:\n  adv_estimator: grpo\n")
    assert opened(tmp_path).config == {"algorithm": {"adv_estimator": "grpo"}}


def test_the_tokenizer_is_that_of_the_weights_or_of_the_model(tmp_path):
    assert Run(tmp_path).tokenizer is None
    (tmp_path / "model").mkdir()
    model = tokenizer(tmp_path / "model" / "tokenizer.json")
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text(
        json.dumps({"actor_rollout_ref": {"model": {"path": str(model.parent)}}})
    )
    assert Run(run).tokenizer == model
    (run / "checkpoints").mkdir()
    assert Run(run).tokenizer == model
    saved = tokenizer(run / "checkpoints" / "tokenizer.json")
    assert Run(run).tokenizer == saved


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["."], [str(RUN), "--tokenizer", "nowhere.json"]]
)
def test_what_cannot_be_shown_is_one_clear_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["view", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("agentflow view: ")
    assert complaint.count("\n") == 1


def test_a_folder_that_is_missing_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Run(tmp_path / "nowhere")
