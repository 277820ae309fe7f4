"""What a person sees in Chromium, clicked through, against the log of a recorded quickstart run."""

from __future__ import annotations

import json
import statistics
from decimal import ROUND_HALF_UP, Decimal
from functools import partial

import pytest

from tests.view.browser import needs_chromium
from tests.view.logs import CONTROL, RUN, groups, lines

pytestmark = needs_chromium


@pytest.fixture
def varied():
    """A training group of step 24 whose rewards differ."""
    return next(
        (place, members)
        for place, members in groups().items()
        if place[:2] == ("train", 24) and len({line["reward"] for line in members}) > 1
    )


def shown_number(value, digits=2):
    """As the page writes it: at most two digits after the point, halves away from zero."""
    exact = Decimal(value).quantize(Decimal(10) ** -digits, ROUND_HALF_UP)
    return f"{exact:f}".rstrip("0").rstrip(".").replace("-", "−")


def percent(share):
    return f"{shown_number(100 * share, 1)} %"


def calls(line, tool):
    made = (turn["call"] for turn in line["trajectory"]["turns"] if turn["call"] and turn["result"])
    return sum(call["tool"] == tool for call in made)


def figures_of(page, title):
    """The table behind a chart."""
    page.wait(lambda: page.all(f'[data-chart="{title}"] canvas'))
    page.driver.execute_script(
        "document.querySelector(arguments[0]).open = true", f'[data-chart="{title}"] details'
    )
    page.wait(lambda: page.all(f'[data-chart="{title}"] table'))
    return page.table(f'[data-chart="{title}"] table')


def of(split, step, run=RUN):
    return [line for line in lines(run) if line["split"] == split and line["step"] == step]


def mean_of(split, step, value):
    return statistics.mean(value(line) for line in of(split, step))


def test_the_run_page_agrees_with_the_log(page):
    assert page.text("h1") == "run-0"
    assert "Trajectories32" in page.text(".key-figures")
    success = {
        ("train", step): percent(mean_of("train", step, lambda line: line["reward"]))
        for step in (1, 24)
    }
    held = {step: percent(mean_of("val", step, lambda line: line["reward"])) for step in (0, 24)}
    assert figures_of(page, "Success") == [
        ["0", "–", held[0]],
        ["1", success["train", 1], "–"],
        ["24", success["train", 24], held[24]],
    ]
    answered = [
        percent(mean_of("train", step, lambda line: line["trajectory"]["outcome"] == "answered"))
        for step in (1, 24)
    ]
    assert [row[1] for row in figures_of(page, "Outcomes")] == answered
    turns = [len(line["trajectory"]["turns"]) for line in lines()]
    assert figures_of(page, "Turns") == [
        [str(count), str(turns.count(count))] for count in (1, 2, 3)
    ]
    tools = ("python_coder", "wikipedia_search")
    mix = [
        [
            str(step),
            *(shown_number(mean_of("train", step, partial(calls, tool=tool))) for tool in tools),
        ]
        for step in (1, 24)
    ]
    assert figures_of(page, "Tool calls per trajectory") == mix
    planner = [
        mean_of("train", step, lambda line: line["trajectory"]["timings"]["planner"])
        for step in (1, 24)
    ]
    assert [
        float(row[2].removesuffix(" s")) for row in figures_of(page, "Time per trajectory")
    ] == pytest.approx(planner, abs=0.006)


def test_a_metric_of_the_trainer_can_be_chosen(page):
    from selenium.webdriver.support.ui import Select

    Select(page.all("select[name=metric]")[0]).select_by_value("actor/grad_norm")
    logged = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    rows = figures_of(page, "actor/grad_norm")
    assert [row[0] for row in rows] == ["1", "2", "12", "24"]
    assert [float(row[1]) for row in rows] == pytest.approx(
        [line["data"]["actor/grad_norm"] for line in logged[1:]], abs=0.006
    )


def test_from_the_run_to_a_step_to_a_group_to_a_trajectory_by_clicks(page, varied):
    (split, step, uid), members = varied
    page.all(".tabs a")[1].click()
    page.wait(lambda: page.text("h1") == "Trajectories")
    page.driver.find_element("css selector", "input[name=from]").send_keys("24")
    page.wait(lambda: {row[0] for row in page.table(".results table")} == {"24"})
    session = members[0]["session"]
    page.all(f'[data-key="{uid}/{session}"] a')[1].click()
    page.wait(lambda: page.all(".columns"))
    assert page.text("h1") == members[0]["trajectory"]["query"]
    page.all(".column header a")[1].click()
    page.wait(lambda: page.all(".timeline"))
    assert page.texts(".trail > *")[-1] == f"trajectory {members[1]['session']}"


def test_a_group_stands_side_by_side_with_reward_and_advantage(page, varied):
    (split, step, uid), members = varied
    page.go(f"#/group/0/{split}/{step}/{uid}", members[0]["trajectory"]["query"])
    rewards = [line["reward"] for line in members]
    centre, spread = statistics.mean(rewards), statistics.stdev(rewards)
    advantages = [(reward - centre) / (spread + 1e-6) for reward in rewards]
    assert page.texts(".column header a") == [f"Trajectory {line['session']}" for line in members]
    assert page.texts(".column .field:nth-child(1) dd") == [
        ("✓ " if reward >= 1 else "✗ ") + shown_number(reward) for reward in rewards
    ]
    assert page.texts(".column .advantage b") == [
        ("+" if value > 0 else "") + shown_number(value) for value in advantages
    ]
    tops = {column.rect["y"] for column in page.all(".column")}
    assert len(tops) == 1
    for position, line in enumerate(members, start=1):
        texts = page.texts(f".column:nth-child({position}) .turn")
        assert len(texts) == len(line["trajectory"]["turns"])
        for text, turn in zip(texts, line["trajectory"]["turns"]):
            assert turn["plan"] is None or turn["plan"]["sub_goal"] in text
            assert turn["result"] is None or turn["result"]["text"] in text
            assert turn["error"] is None or turn["error"] in text


def test_a_trajectory_shows_all_that_was_recorded(page, varied):
    (split, step, uid), members = varied
    for line in members:
        made = line["trajectory"]
        page.go(f"#/trajectory/0/{split}/{step}/{uid}/{line['session']}", made["query"])
        page.wait(lambda: page.all(".timeline"))
        facts = page.text(".facts")
        assert (
            made["outcome"].replace("_", " ") in facts
            and made["answer"] in facts
            and line["ground_truth"] in facts
        )
        for turn in made["turns"]:
            there = f'[data-turn="{turn["index"]}"]'
            for part, fields in (
                ("plan", ("sub_goal", "context", "justification")),
                ("result", ("text",)),
                ("verdict", ("analysis",)),
            ):
                for field in fields if turn[part] else ():
                    assert turn[part][field] in page.text(f"{there} .step.{part}")
            for name, value in (turn["call"] or {"arguments": {}})["arguments"].items():
                assert page.texts(f"{there} .step.call .argument")[0] == name + value
            if turn["verdict"]:
                assert ("STOP" if turn["verdict"]["stop"] else "CONTINUE") in page.text(
                    f"{there} .step.verdict"
                )
            if turn["error"]:
                assert page.text(f"{there} .note") == turn["error"]
                assert turn["error"] in page.text(f"{there} .memory")
            check_tokens(page, there, turn["tokens"])
        spans = page.texts(".lane-name")
        assert spans == [
            part
            for part in ("analyst", "planner", "executor", "tools", "verifier", "generator")
            if part in made["timings"]
        ]
        assert page.texts(".lane .span") and page.texts(".lane-time")[-1].startswith(
            f"{made['timings']['total']:.2f}".rstrip("0").rstrip(".")
        )


def check_tokens(page, there, tokens):
    page.driver.execute_script(
        "document.querySelectorAll(arguments[0]).forEach((node) => (node.open = true))",
        f"{there} details",
    )
    page.wait(lambda: page.all(f"{there} details td") and page.all(f"{there} .prompt"))
    assert page.texts(f"{there} .token") == [f"w{token}" for token in tokens["response_ids"]]
    assert page.text(f"{there} .prompt") == "".join(f"w{token}" for token in tokens["prompt_ids"])
    rows = page.driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].find((table) =>"
        " table.caption.textContent === 'Tokens').innerText",
        f"{there} table",
    )
    cells = [row.split("\t") for row in rows.splitlines() if "\t" in row][1:]
    assert [int(row[1]) for row in cells] == tokens["response_ids"]
    shown = [float(row[3].replace("−", "-")) for row in cells]
    assert shown == pytest.approx(tokens["logprobs"], abs=1e-4)
    assert {row[4] for row in cells} == {"1"}
    assert {row[5] for row in cells} == {page.text(".facts .advantage b")}


def test_held_out_trajectories_are_not_trained_on(page):
    line = of("val", 24)[0]
    page.go(f"#/trajectory/0/val/24/{line['group']}/{line['session']}", line["trajectory"]["query"])
    page.wait(lambda: page.all(".tokens"))
    assert "mask 0" in page.text(".readout")
    assert "Not trained" in page.text(".turn")


@pytest.mark.parametrize(
    ("query", "keeps"),
    [
        ("outcome=out_of_turns", lambda line: line["trajectory"]["outcome"] == "out_of_turns"),
        (
            "tool=wikipedia_search",
            lambda line: any(
                t["result"] and t["call"]["tool"] == "wikipedia_search"
                for t in line["trajectory"]["turns"]
            ),
        ),
        ("low=0.5", lambda line: line["reward"] >= 0.5),
        ("high=0.5&split=train", lambda line: line["reward"] <= 0.5 and line["split"] == "train"),
        ("from=1&to=23", lambda line: line["step"] == 1),
        ("text=GREATEST", lambda line: "greatest" in line["trajectory"]["query"].lower()),
        ("source=wiki%2Ftopic", lambda line: line["data_source"] == "wiki/topic"),
        (
            "deep=1&text=no+tool%3A+line",
            lambda line: "no Tool: line" in json.dumps(line["trajectory"]["turns"]),
        ),
        ("text=nowhere+at+all", lambda line: False),
    ],
)
def test_filters_and_search_keep_what_the_log_says(page, query, keeps):
    page.go(f"#/list?run=0&{query}", "Trajectories")
    wanted = sum(1 for line in lines() if keeps(line))
    total = len(lines()) + len(lines(CONTROL))
    page.wait(
        lambda: page.text("[role=status].muted:not(.bar *)") == f"{wanted} of {total} trajectories"
    )
    keys = page.driver.execute_script(
        "return [...document.querySelectorAll('[data-key]')].map((row) => row.dataset.key)"
    )
    assert sorted(keys) == sorted(
        f"{line['group']}/{line['session']}" for line in lines() if keeps(line)
    )


def test_a_column_sorts_both_ways(page):
    page.go("#/list?run=0", "Trajectories")
    for order, reverse in (("descending", True), ("ascending", False)):
        page.all('[data-sort="turns"]')[0].click()
        page.wait(partial(page.all, f'th[aria-sort="{order}"]'))
        turns = [int(row[7]) for row in page.table(".results table")]
        assert turns == sorted(turns, reverse=reverse)
    assert page.driver.switch_to.active_element.get_attribute("data-sort") == "turns"


@pytest.mark.parametrize(
    ("a", "b"),
    [((RUN, 0, 0), (RUN, 0, 24)), ((RUN, 0, 24), (CONTROL, 1, 24))],
    ids=["checkpoints", "runs"],
)
def test_two_sides_are_compared_on_the_same_question(page, a, b):
    rewards = [
        {line["trajectory"]["query"]: line["reward"] for line in of("val", step, run)}
        for run, _, step in (a, b)
    ]
    page.go(f"#/compare?a={a[1]}.val.{a[2]}&b={b[1]}.val.{b[2]}", "Compare")
    rows = {row[0]: row[2:] for row in page.table("table.rows")}
    expected = {}
    for question, before in rewards[0].items():
        change = rewards[1][question] - before
        expected[question] = [
            shown_number(before),
            shown_number(rewards[1][question]),
            ("+" if change > 0 else "") + shown_number(change),
        ]
    assert rows == expected
    question = page.texts("table.rows a")[0]
    page.all("table.rows a")[0].click()
    page.wait(lambda: page.all(".sides"))
    assert page.text("h1") == question
    assert page.texts(".sides .column .field:nth-child(1) dd") == [
        ("✓ " if side[question] >= 1 else "✗ ") + shown_number(side[question]) for side in rewards
    ]
