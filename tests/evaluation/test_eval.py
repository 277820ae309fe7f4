"""``agentflow eval`` from its command line to its report, over a real endpoint and a real tool
server.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
import yaml

from agentflow_verl.cli.main import main
from agentflow_verl.evaluation.leakage import NOTE
from agentflow_verl.evaluation.store import Store
from agentflow_verl.trajectories.log import read_log
from agentflow_verl.trajectories.run_folder import Run
from tests.evaluation.fakes import endpoint, module_of, right, slow, write_questions, wrong
from tests.evaluation.runs import arguments, report


def test_a_run_and_its_report(echo, data, tmp_path, capsys):
    out = tmp_path / "out"
    with endpoint() as model:
        assert (
            main(
                arguments(model, echo, data, out, "--price", "policy=1,10", "--price", "base=1,10")
            )
            == 0
        )
    found = report(out)
    sums, facts = found["benchmarks"]["sums"], found["benchmarks"]["facts"]
    assert (sums["accuracy"]["mean"], facts["accuracy"]["mean"]) == (1.0, 0.0)
    assert (sums["questions"], sums["trials"], sums["trajectories"], sums["missing"]) == (
        6,
        2,
        12,
        0,
    )
    assert (
        sums["outcomes"]["answered"] == 1.0
        and sums["turns"] == 1.0
        and sums["tool_mix"] == {"echo": 12}
    )
    assert sums["tool_error_rate"] == 0.0 and sums["tokens"]["all"] == {
        "calls": 5,
        "prompt": 500,
        "response": 50,
        "cached": 0,
        "cut": 0,
    }
    assert sums["cost"] == pytest.approx((500 * 1 + 50 * 10) / 1e6)
    assert found["overall"]["complete"] and found["overall"]["accuracy"]["mean"] == 0.5
    header = found["header"]
    assert (
        header["engines"]["policy"]["model"] == "toy"
        and header["engines"]["policy"]["server_version"] == "1.2.3"
    )
    assert (
        header["settings"]["seed"] == 7
        and header["versions"]["python"]
        and header["versions"]["platform"] == f"{platform.system()} {platform.machine()}"
        and len(header["benchmarks"]["sums"]["sha256"]) == 64
    )
    assert "echo" in [tool["name"] for tool in header["tools"]]
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if " | own | " in line]
    # Exact match, F1 and the lenient match are figures of short answers: a sum has none.
    assert rows == [
        "| sums | own | 6 × 2 | 100.0% [61.0, 100.0] | 100.0%, 100.0% | – | – | – | 0 |",
        "| facts | own | 4 × 2 | 0.0% [0.0, 49.0] | 0.0%, 0.0% | 0.0% | 16.7% | 0.0% | 0 |",
    ]


def test_the_page_needs_no_network_and_shows_the_pictures(echo, data, tmp_path):
    with endpoint() as model:
        main(arguments(model, echo, data, tmp_path / "out", "--limit", "2"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        page.index("What was run") < page.index("Accuracy")
        and "engine policy: model toy" in page
        and "agentflow_verl" in page.split("Accuracy")[0]
    )
    assert page.count("<svg") == 4 and "<table>" in page and "sums" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page.split("<svg")[0])
    assert "<script" not in page


def test_each_trial_samples_with_a_seed_of_its_own_that_a_second_run_has_too(echo, data, tmp_path):
    def seeds(name: str) -> list[tuple[str, int]]:
        with endpoint() as model:
            main(arguments(model, echo, data, tmp_path / name))
            return sorted(
                (body["messages"][1]["content"], body["seed"])
                for body in model.bodies
                if body["temperature"] == 0.7
            )

    first = seeds("a")
    assert len(first) == 20 and len(set(first)) == 20
    assert seeds("b") == first


def test_the_viewer_reads_the_log(echo, data, tmp_path):
    with endpoint() as model:
        main(arguments(model, echo, data, tmp_path / "out"))
    run = Run(tmp_path / "out")
    run.refresh()
    assert len(run.entries) == 20 and {entry.group for entry in run.entries} >= {
        "sums/0",
        "facts/3",
    }


def test_a_terminal_shows_live_accuracy(echo, data, tmp_path):
    screen, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    with endpoint(slow) as model, open(screen, "rb", buffering=0) as shown:
        given = arguments(model, echo, data, tmp_path / "out", "--concurrency", "2")
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow_verl.cli.main", *given],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
        )
        os.close(terminal)
        text = "".join(part.decode() for part in until_closed(shown))
        assert process.wait(60) == 0
    bars = re.findall(
        r"(\d+)/20 \[.*?, right ([\d.]+)% of (\d+), sums ([\d.]+)% of (\d+), facts ([\d.]+)% of"
        r" (\d+)",
        text,
    )
    assert bars[-1] == ("20", "60.0", "20", "100.0", "12", "0.0", "8")
    assert any(int(done) < 20 for done, *_ in bars)


def until_closed(terminal) -> Iterator[bytes]:
    try:
        while part := terminal.read(4096):
            yield part
    except OSError:  # how Linux says that nobody holds the other end
        return


def test_two_runs_are_compared_question_by_question(echo, data, tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    with endpoint(wrong) as model:
        main(arguments(model, echo, data, a))
    with endpoint(right) as model:
        main(arguments(model, echo, data, b))
    capsys.readouterr()
    assert main(["eval", "--compare", str(a), str(b)]) == 0
    found = json.loads((b / "compare.json").read_text())
    sums = found["benchmarks"]["sums"]
    assert (sums["a"], sums["b"], sums["only_a"], sums["only_b"], sums["questions"]) == (
        0.0,
        1.0,
        0,
        6,
        6,
    )
    assert sums["difference"]["mean"] == 1.0 and sums["difference"]["p"] == pytest.approx(
        2 / 2**6, abs=0.01
    )
    assert sums["p_adjusted"] == pytest.approx(2 * sums["difference"]["p"])
    assert found["benchmarks"]["facts"]["difference"] == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p": 1.0,
    }
    assert found["overall"]["difference"]["mean"] == 0.5
    assert set(found["settings_that_differ"]) == {
        "settings.models.policy.place",
        "settings.models.base.place",
        "engines.policy.served_by",
        "engines.base.served_by",
    }
    assert "| sums | 6 | 0.0% | 100.0% | +100.0 [+100.0, +100.0] |" in capsys.readouterr().out
    assert (b / "compare.html").read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--benchmarks", "sum"], "has facts, sums"),
        (
            ["--endpoint", "http://127.0.0.1:9/v1"],
            "engine policy: http://127.0.0.1:9/v1 does not answer",
        ),
        (["--endpoint", "127.0.0.1:9"], "write the address up to and including /v1"),
        (["--endpoint", "http://me:secret@127.0.0.1:9/v1"], "no user or password in the address"),
        (["--planner", "ftp://host"], "--planner 'ftp://host': write the address"),
        (["--planner-model", "adapter"], "engine policy: {url} has no model 'adapter'; it has toy"),
        (["--model", "other"], "has no model 'other'; it has toy"),
        (["--planner", "./nowhere"], "there is no such folder"),
        (["--tool", "echo=http://127.0.0.1:9/mcp"], "http://127.0.0.1:9/mcp"),
        (["--price", "base=cheap"], "write ENGINE=IN,OUT"),
        (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_asked(
    echo, data, tmp_path, capsys, change, said
):
    with endpoint() as model:
        given = arguments(model, echo, data, tmp_path / "out")
        if change[0] == "--tool":
            given[given.index("--tool") + 1] = change[1]
            change = []
        assert main([*given, *change]) == 2
        assert not model.bodies
    assert said.format(url=model.url) in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_without_weights_says_how_to_get_them(data, tmp_path, capsys):
    assert (
        main(
            [
                "eval",
                "--benchmarks",
                "sums",
                "--data",
                str(data),
                "--out",
                str(tmp_path),
                "--model",
                str(data),
            ]
        )
        == 2
    )
    assert "python -m verl.model_merger merge" in capsys.readouterr().err


def test_a_configuration_file_of_training_will_do(echo, data, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "agentflow": {
                    "max_turns": 4,
                    "tools": {"echo": {"urls": ["${trainer.tool}"]}},
                    "trajectory_dir": "${x.y}/t",
                    "flow_grpo": {"std": False},
                },
                "trainer": {"tool": echo.url},
            }
        )
    )
    with endpoint() as model:
        assert (
            main(
                [
                    "eval",
                    "--benchmarks",
                    "sums",
                    "--data",
                    str(data),
                    "--out",
                    str(tmp_path / "o"),
                    "--endpoint",
                    model.url,
                    "--config",
                    str(config),
                    "--limit",
                    "1",
                ]
            )
            == 0
        )
    assert report(tmp_path / "o")["header"]["settings"]["agentflow"]["max_turns"] == 4


def test_the_planner_may_be_another_model(echo, data, tmp_path):
    with endpoint() as frozen, endpoint() as planner:
        assert main(arguments(frozen, echo, data, tmp_path / "out", "--planner", planner.url)) == 0
        assert len(planner.bodies) == 20 and len(frozen.bodies) == 80
        assert {body["temperature"] for body in planner.bodies} == {0.7} and {
            body["temperature"] for body in frozen.bodies
        } == {0.0}


def test_modules_that_a_run_trained_are_asked_as_they_were_in_training(echo, data, tmp_path):
    """The policy is held to no schema there, and may write what it might write when it was
    trained; and a validation's limits hold.
    """
    config = tmp_path / "agent.yaml"
    node = {
        "train": ["planner", "executor"],
        "train_weights": {"executor": 2.0},
        "engines": {"executor": "policy"},
        "max_turns": 3,
        "val": {"max_turns": 4, "memory_tokens": 512},
    }
    data_node = {"max_response_length": 77}
    config.write_text(yaml.safe_dump({"agentflow": node, "data": data_node}))
    out = tmp_path / "out"
    with endpoint() as frozen, endpoint() as trained:
        given = arguments(frozen, echo, data, out, "--planner", trained.url)
        assert main([*given, "--config", str(config), "--memory-tokens", "300"]) == 0
    assert len(trained.bodies) == 40 and len(frozen.bodies) == 60
    assert not any("response_format" in body for body in trained.bodies)
    assert {body["max_tokens"] for body in trained.bodies} == {77}
    assert {body["max_tokens"] for body in frozen.bodies} == {1024}
    assert any("response_format" in body for body in frozen.bodies)
    settings = report(out)["header"]["settings"]
    assert (settings["planner_max_tokens"], settings["policy_schema"]) == (77, False)
    recorded = settings["agentflow"]
    assert (recorded["max_turns"], recorded["memory_tokens"]) == (4, 300)
    assert not {"train", "train_weights", "val"} & set(recorded)


def test_no_run_in_a_folder_is_said(tmp_path, capsys):
    assert Store(tmp_path).header is None
    assert main(["eval", "--compare", str(tmp_path), str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err


def test_a_benchmark_question_in_a_result_is_dropped_and_reported_by_benchmark(
    echo, data, tmp_path
):
    asked = "Which of the two numbers three and five is the larger one?"
    write_questions(data, larger=[{"question": asked, "answer": "five", "data_source": "nq"}])

    def copies(body: dict) -> str:
        return (
            json.dumps({"text": f"A page. {asked} Five."})
            if module_of(body) == "executor"
            else right(body)
        )

    out = tmp_path / "out"
    with endpoint(copies) as model:
        assert main([*arguments(model, echo, data, out), "--benchmarks", "larger,sums"]) == 0
    found = report(out)
    assert found["overlap"]["larger"] == {
        "questions": 1,
        "too_short": 0,
        "found": 1,
        "found_to_their_own": 1,
        "trajectories": 14,
    }
    assert found["overlap"]["sums"] == {
        "questions": 6,
        "too_short": 6,
        "found": 0,
        "found_to_their_own": 0,
        "trajectories": 0,
    }
    assert found["benchmarks"]["sums"]["leaks"] == {"echo": 12} and found["benchmarks"]["sums"][
        "questions_leaked"
    ] == ["larger/0"]
    assert "| larger | 1 | 0 | 1 | 1 | 14 |" in (out / "report.md").read_text()
    assert {
        entry.trajectory.turns[0].result.text for entry in read_log(out / "trajectories", "val")
    } == {NOTE}


def test_a_judge_beside_the_rules_is_reported_and_its_verdicts_are_kept(echo, data, tmp_path):
    def approves_of_book_1(body: dict) -> str:
        return json.dumps(
            {"analysis": "a pen name", "correct": "book 1?" in body["messages"][1]["content"]}
        )

    out = tmp_path / "out"
    with endpoint() as model, endpoint(approves_of_book_1) as judge:
        asked = arguments(model, echo, data, out, "--judge", judge.url, "--judge-model", "toy")
        assert main(asked) == 0
        assert (
            len(judge.bodies) == 4
        )  # of the sums the rule is sure, and both trials of a fact say the same
        facts = report(out)["benchmarks"]["facts"]
        assert facts["accuracy"]["mean"] == 0.25 and facts["judge"]["accuracy_by_rule"] == 0.0
        assert {name: facts["judge"][name] for name in ("count", "judge_only", "neither")} == {
            "count": 8,
            "judge_only": 2,
            "neither": 6,
        }
        assert report(out)["benchmarks"]["sums"]["judge"] is None
        page = (out / "report.md").read_text()
        assert (
            "| facts | 0.0% | 8 | 0 | 0 | 2 | 6 | 75.0% | – |" in page
            and "judge of answers, fallback: model toy" in page
        )
        assert "(judge: a pen name)" in page
        assert main([*asked, "--trials", "3"]) == 0
        assert len(judge.bodies) == 4 and report(out)["benchmarks"]["facts"]["judge"]["count"] == 12


def test_a_judge_that_is_not_there_is_one_line_before_anything_is_asked(
    echo, data, tmp_path, capsys
):
    with endpoint() as model:
        assert (
            main(
                arguments(
                    model,
                    echo,
                    data,
                    tmp_path / "out",
                    "--judge",
                    "http://127.0.0.1:9/v1",
                    "--judge-model",
                    "m",
                )
            )
            == 2
        )
        assert (
            main(arguments(model, echo, data, tmp_path / "out", "--judge", "http://127.0.0.1:9/v1"))
            == 2
        )
        assert not model.bodies
    said = capsys.readouterr().err
    assert (
        "engine judge: http://127.0.0.1:9/v1 does not answer" in said
        and "--judge-model is missing" in said
    )


@pytest.mark.parametrize("given", ["run", "option", "both"])
def test_the_chat_templates_arguments_of_a_run_or_an_option_reach_the_models(
    tmp_path, data, echo, given
):
    config = tmp_path / "config.yaml"
    template = {"apply_chat_template_kwargs": {"enable_thinking": "${x}"}}
    config.write_text(json.dumps({"x": False, "data": template, "agentflow": {"max_turns": 2}}))
    words = {
        "run": ["--config", str(config)],
        "option": ["--chat-template-kwargs", '{"enable_thinking": false}'],
    }
    words["both"] = [*words["run"], "--chat-template-kwargs", '{"enable_thinking": true}']
    with endpoint() as model:
        out = tmp_path / "out"
        assert main(arguments(model, echo, data, out, "--limit", "1", *words[given])) == 0
    sent = [body["chat_template_kwargs"] for body in model.bodies]
    assert sent and all(value == {"enable_thinking": given == "both"} for value in sent)


def test_chat_template_arguments_that_are_no_object_are_one_line(capsys):
    assert main(["solve", "Why?", "--chat-template-kwargs", "false"]) == 2
    assert "write a JSON object" in capsys.readouterr().err
