"""The paper's analyses, over the recorded quickstart and over evaluations with different numbers of
turns.
"""

from __future__ import annotations

import json
from statistics import fmean

import pytest

from agentflow_verl.cli.main import main
from tests.evaluation.fakes import SUMS, endpoint, write_questions
from tests.tools.servers import echo_process
from tests.view.logs import CONTROL, RUN, lines, scored, trajectory, write


def analysis(what: str, out, *folders) -> dict:
    assert main(["analyse", what, *map(str, folders), "--out", str(out)]) == 0
    for form in ("md", "html"):
        assert (out / f"analysis_{what}.{form}").is_file()
    return json.loads((out / f"analysis_{what}.json").read_text())["figures"]


def logged(step: int, split: str) -> list[dict]:
    return [line for line in lines(RUN) if line["step"] == step and line["split"] == split]


def test_training_is_reported_by_step(tmp_path):
    found = analysis("training", tmp_path, RUN)
    assert list(found) == ["run-0, step 1", "run-0, step 24"]
    for step in (1, 24):
        rows, figures = logged(step, "train"), found[f"run-0, step {step}"]
        turns = [turn for row in rows for turn in row["trajectory"]["turns"]]
        failed = [
            turn["result"] is None or turn["result"]["is_error"]
            for turn in turns
            if turn["plan"] is not None
        ]
        assert figures["trajectories"] == len(rows)
        assert figures["reward"] == pytest.approx(
            fmean(row["reward"] for row in rows if row["reward"] is not None)
        )
        assert figures["failed tool calls"] == pytest.approx(fmean(failed))
        assert figures["planner tokens"] == pytest.approx(
            fmean(len(turn["tokens"]["response_ids"]) for turn in turns if turn["tokens"])
        )
    assert (tmp_path / "analysis_training.html").read_text().count("<svg") == 3


def test_the_tool_mix_is_that_of_the_first_and_last_validation(tmp_path):
    found = analysis("tools", tmp_path, RUN, CONTROL)
    assert list(found)[:2] == ["run-0, step 0", "run-0, step 24"]
    calls = [
        turn["call"]["tool"]
        for row in logged(24, "val")
        for turn in row["trajectory"]["turns"]
        if turn["call"]
    ]
    assert found["run-0, step 24"] == pytest.approx(
        {tool: calls.count(tool) / len(calls) for tool in set(calls)}
    )


def test_success_by_what_a_turn_did_has_counts_and_an_interval(tmp_path, capsys):
    found = analysis("credit", tmp_path, RUN)
    firsts = [name for name in found if name.startswith("run-0, turn 1, tool ")]
    trained = [line for line in lines(RUN) if line["split"] == "train"]
    scored = [line for line in trained if line["reward"] is not None]
    assert sum(found[name]["trajectories"] for name in firsts) == len(scored)
    table = capsys.readouterr().out
    compared = found["run-0, turn 1, tool python_coder"]
    assert compared["groups"] > 0
    assert f"{100 * compared['difference']:+.1f} [" in table


def test_accuracy_against_the_allowed_turns(tmp_path, capsys):
    data = write_questions(tmp_path / "data", sums=SUMS)
    with echo_process() as echo, endpoint() as model:
        for turns in (3, 5):
            assert (
                main(
                    [
                        "eval",
                        "--benchmarks",
                        "sums",
                        "--data",
                        str(data),
                        "--endpoint",
                        model.url,
                        "--tool",
                        f"echo={echo.url}",
                        "--max-turns",
                        str(turns),
                        "--out",
                        str(tmp_path / f"turns-{turns}"),
                    ]
                )
                == 0
            )
    found = analysis("turns", tmp_path, tmp_path / "turns-5", tmp_path / "turns-3")
    assert list(found) == ["sums, 3 turns, turns-3", "sums, 5 turns, turns-5"]
    three = found["sums, 3 turns, turns-3"]
    assert three["mean"] == 1.0 and three["turns_taken"] == 1.0
    row = "| sums | 3 | turns-3 | 100.0% [61.0, 100.0] | 1.0 | 6 |\n| sums | 5 |"
    assert row in capsys.readouterr().out


def test_a_folder_without_trajectories_is_refused(tmp_path, capsys):
    assert main(["analyse", "training", str(tmp_path)]) == 2
    assert "no trajectories of train" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["tools", "training", "credit"])
def test_runs_of_one_name_are_told_apart_by_their_paths(what, tmp_path):
    first = write(tmp_path / "a/run-0", *(scored(trajectory(), session=n) for n in range(3)))
    second = write(tmp_path / "b/run-0", scored(trajectory()))
    found = analysis(what, tmp_path / "out", first, second)
    for run, count in ((first, 3), (second, 1)):
        names = [name for name in found if name.startswith(f"{run}, ")]
        assert names
        if what != "tools":  # whose figures are shares
            assert all(found[name]["trajectories"] == count for name in names)


def test_a_difference_of_one_question_has_no_interval(tmp_path, capsys):
    write(tmp_path, *(scored(trajectory(), session=n, reward=float(n)) for n in range(2)))
    made = tmp_path.glob("trajectories/train/*/*.jsonl")
    [path] = made
    first, second = map(json.loads, path.read_text().splitlines())
    second["trajectory"]["turns"] = []  # so that the two did not do the same
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert analysis("credit", tmp_path, tmp_path)
    assert "[" not in capsys.readouterr().out.split("|---", 1)[1]


def test_the_table_of_one_file_stands_beside_it(tmp_path, capsys):
    write(tmp_path, scored(trajectory()))
    [path] = tmp_path.glob("trajectories/train/*/*.jsonl")
    assert main(["analyse", "training", str(path)]) == 0
    assert (path.parent / "analysis_training.md").is_file()
    assert main(["analyse", "training", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
