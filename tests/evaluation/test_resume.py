"""A run that is stopped, killed, or cut off from its servers goes on where it was."""

from __future__ import annotations

import json
import re
import signal

import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.evaluation import runner, store
from agentflow_verl.trajectories.log import ScoredTrajectory
from tests.evaluation.fakes import SUMS, endpoint, slow, write_questions
from tests.evaluation.runs import arguments, report, stopped, without_times


def test_control_c_leaves_a_report_of_what_there_is(echo, data, tmp_path):
    out = tmp_path / "out"
    with endpoint(slow) as model:
        assert (
            stopped(arguments(model, echo, data, out, "--concurrency", "2"), out, signal.SIGINT)
            == 130
        )
    found = report(out)
    assert (
        not found["overall"]["complete"] and 5 <= found["benchmarks"]["sums"]["trajectories"] < 12
    )


def test_a_finished_run_is_reported_again_without_a_server(echo, data, tmp_path):
    out = tmp_path / "out"
    with endpoint() as model:
        given = arguments(model, echo, data, out)
        assert main(given) == 0
    first = report(out)
    (out / "report.json").unlink()
    assert main(given) == 0
    assert report(out) == first


def test_a_killed_run_goes_on_and_gives_the_same_report(echo, data, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with endpoint(slow) as model:
        assert main(arguments(model, echo, data, whole)) == 0
        given = arguments(model, echo, data, cut, "--concurrency", "2")
        assert stopped(given, cut, signal.SIGKILL) == -signal.SIGKILL
        [path] = (cut / "trajectories").glob("**/*.jsonl")
        path.write_bytes(
            path.read_bytes() + path.read_bytes()[:100]
        )  # a line that the kill cut short
        kept = path.read_text().count("\n")
        before = len(model.bodies)
        assert main(arguments(model, echo, data, cut)) == 0
        late = 2  # requests of the killed process that the endpoint may still have counted
        assert 0 <= len(model.bodies) - before - 5 * (20 - kept) <= late
    assert (
        len(report(cut)["header"]["sessions"]) == 2
        and report(cut)["header"]["sessions"][0]["seconds"] is None
    )
    assert without_times(report(cut)) == without_times(report(whole))


def test_trials_and_benchmarks_may_be_added_but_other_settings_may_not(
    echo, data, tmp_path, capsys
):
    out = tmp_path / "out"
    with endpoint() as model:
        one = [*arguments(model, echo, data, out), "--benchmarks", "sums", "--trials", "1"]
        assert main(one) == 0
        asked = len(model.bodies)
        assert main(one) == 0 and len(model.bodies) == asked
        assert main(arguments(model, echo, data, out)) == 0
        assert len(model.bodies) - asked == 5 * (6 + 8)
        assert main(arguments(model, echo, data, out, "--max-turns", "2")) == 2
        assert (
            "began with settings.agentflow.max_turns = 10, now it is 2; choose another --out"
            in capsys.readouterr().err
        )
        write_questions(data, sums=SUMS[:-1])
        assert main(arguments(model, echo, data, out)) == 2
        assert "began with another file for sums" in capsys.readouterr().err


def test_an_outage_is_reported_and_mended_by_the_same_command(
    echo, data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(runner, "PAUSE_S", 0.0)
    monkeypatch.setattr("agentflow_verl.core.retry.random.uniform", lambda low, high: 0.001)
    out = tmp_path / "out"
    with endpoint() as model:
        model.broken = True
        assert main(arguments(model, echo, data, out)) == 3
        assert re.search(
            r"in a row ended in faults, the last: endpoint base: .*HTTP 503",
            capsys.readouterr().err,
        )
        found = report(out)
        assert (
            found["benchmarks"] == {}
            and not found["overall"]["complete"]
            and found["overall"]["faults"] > 0
        )
        assert (
            "**Incomplete:**" in (out / "report.md").read_text()
            and "HTTP 503" in (out / "report.md").read_text()
        )
        model.broken = False
        assert main(arguments(model, echo, data, out)) == 0
    mended = report(out)
    assert mended["overall"]["complete"] and mended["benchmarks"]["sums"]["accuracy"]["mean"] == 1.0
    assert mended["overall"]["faults"] == found["overall"]["faults"]


def test_a_question_that_faults_ended_twice_is_missing_once(tmp_path):
    from tests.view.logs import trajectory

    made = trajectory()
    results = store.Results()
    row = {
        "step": 0,
        "split": "val",
        "group": "sums/a/b",
        "session": 0,
        "data_source": "gsm8k",
        "trajectory": made,
    }
    for reward in (None, None, 1.0, None):
        results.add(ScoredTrajectory(**row, reward=reward))
    assert results.faults == 3 and not results.unscored
    assert [entry.group for entry in results.of("sums")] == ["sums/a/b"]


def test_an_outage_of_the_judge_leaves_trajectories_missing_and_the_next_run_goes_on(
    echo, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "PAUSE_S", 0.0)
    monkeypatch.setattr("agentflow_verl.core.retry.random.uniform", lambda low, high: 0.001)
    out = tmp_path / "out"
    with endpoint() as model, endpoint(lambda body: '{"analysis": "", "correct": true}') as judge:
        judge.broken = True
        asked = arguments(model, echo, data, out, "--judge", judge.url, "--judge-model", "toy")
        assert main(asked) == 0
        found = report(out)
        assert (
            found["benchmarks"]["sums"]["missing"] == 0
            and "facts" not in found["benchmarks"]
            and not found["overall"]["complete"]
        )
        judge.broken = False
        assert main(asked) == 0
        assert (
            report(out)["benchmarks"]["facts"]["accuracy"]["mean"] == 1.0
            and report(out)["overall"]["complete"]
        )


def test_a_run_that_is_looked_at_is_not_changed(echo, data, tmp_path, capsys):
    out = tmp_path / "out"
    with endpoint() as model:
        assert main(arguments(model, echo, data, out)) == 0
    [path] = (out / "trajectories").glob("**/*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"step": 0, "spl')  # as it is while a run writes
    before = path.read_bytes()
    assert main(["eval", "--compare", str(out), str(out), "--out", str(tmp_path / "c")]) == 0
    assert main(["analyse", "turns", str(out), "--out", str(tmp_path / "a")]) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", '{"settings": {', "{}", "[]", "\ud800"])
def test_a_damaged_header_is_one_line(tmp_path, capsys, text):
    (tmp_path / "run.json").write_text(text, errors="surrogatepass")
    for command in (["eval", "--compare", str(tmp_path)], ["analyse", "turns"]):
        assert main([*command, str(tmp_path)]) == 2
        message = capsys.readouterr().err
        assert f"{tmp_path}/run.json is " in message and message.count("\n") == 1


def test_a_run_of_an_older_version_goes_on_whose_header_names_options_of_training(
    echo, data, tmp_path
):
    out = tmp_path / "out"
    with endpoint() as model:
        given = arguments(model, echo, data, out)
        assert main(given) == 0
        header = json.loads((out / "run.json").read_text())
        header["settings"]["agentflow"] |= {"server_timeout_s": 600.0, "train": ["planner"]}
        (out / "run.json").write_text(json.dumps(header))
        asked = len(model.bodies)
        assert main(given) == 0
        assert len(model.bodies) == asked, "there was nothing left to do"
        assert main([*given, "--trials", "3"]) == 0
        assert len(model.bodies) > asked


def test_a_run_with_a_schema_for_all_modules_is_not_mixed_with_one_without(
    echo, data, tmp_path, capsys
):
    out, config = tmp_path / "out", tmp_path / "agent.yaml"
    config.write_text("engines: {executor: policy}\n")
    with endpoint() as model:
        given = arguments(model, echo, data, out, "--config", str(config))
        assert main(given) == 0
        header = json.loads((out / "run.json").read_text())
        del header["settings"]["policy_schema"]  # as an older version wrote it
        (out / "run.json").write_text(json.dumps(header))
        assert main([*given, "--trials", "3"]) == 2
    assert "an older version held all modules on policy to a schema" in capsys.readouterr().err


def test_a_whole_record_without_its_line_break_is_kept(echo, data, tmp_path):
    out = tmp_path / "out"
    with endpoint() as model:
        assert main(arguments(model, echo, data, out)) == 0
        [path] = (out / "trajectories").glob("**/*.jsonl")
        path.write_bytes(path.read_bytes()[:-1])
        asked = len(model.bodies)
        assert main(arguments(model, echo, data, out, "--trials", "3")) == 0
    assert len(model.bodies) - asked == 50, "the third trial alone"
    assert path.read_bytes().endswith(b"\n")


def test_a_run_that_is_refused_is_not_changed(echo, data, tmp_path, capsys):
    out = tmp_path / "out"
    with endpoint() as model:
        assert main(arguments(model, echo, data, out)) == 0
        [path] = (out / "trajectories").glob("**/*.jsonl")
        path.write_bytes(path.read_bytes() + b'{"step": 0, "spl')
        before = path.read_bytes()
        assert main(arguments(model, echo, data, out, "--max-turns", "5")) == 2
    assert "began with settings.agentflow.max_turns" in capsys.readouterr().err
    assert path.read_bytes() == before
