"""The run page's success by what a turn did, in Chromium, against the log."""

from __future__ import annotations

from collections import defaultdict

from agentflow_verl.trajectories.run_folder import Run, attempts_of
from agentflow_verl.trajectories.turn_credit import turn_credit
from agentflow_verl.view import index as index_module
from agentflow_verl.view.index import credit_tables
from tests.view.browser import needs_chromium
from tests.view.logs import RUN, lines
from tests.view.test_pages import percent, shown_number


def entries():
    run = Run(RUN)
    run.refresh()
    return run.entries


@needs_chromium
def test_each_choice_has_its_count_its_success_and_its_difference_within_groups(page):
    rows = page.table(".credit table")
    by_tool = defaultdict(list)
    for line in lines():
        if line["split"] != "train" or line["reward"] is None:
            continue
        [first, *_] = line["trajectory"]["turns"]
        called = first["call"] and first["result"]
        by_tool[first["call"]["tool"] if called else "none"].append(line["reward"])
    shown = {row[2]: row[3:5] for row in rows if row[:2] == ["1", "tool"]}
    assert shown == {
        tool: [str(len(rewards)), percent(sum(rewards) / len(rewards))]
        for tool, rewards in by_tool.items()
    }
    credits = turn_credit(attempts_of(entry for entry in entries() if entry.split == "train"))
    assert [row[6] for row in rows] == [str(credit.groups) for credit in credits]
    differences = []
    for credit in credits:
        if credit.difference is None:
            differences.append("–")
        else:
            sign = "+" if credit.difference > 0 else ""
            differences.append(sign + shown_number(credit.difference))
    assert [row[5] for row in rows] == differences


@needs_chromium
def test_training_and_held_out_questions_are_chosen_apart(page):
    from selenium.webdriver.support.ui import Select

    select = Select(page.all("select[name=credit]")[0])
    assert [option.text for option in select.options] == [
        "training, steps 1 to 24",
        "held out, steps 0 to 24",
    ]
    select.select_by_index(1)
    held_out = [line for line in lines() if line["split"] == "val"]
    page.wait(
        lambda: (
            sum(int(row[3]) for row in page.table(".credit table") if row[:2] == ["1", "tool"])
            == len(held_out)
        )
    )


def test_a_long_run_shows_its_newest_steps_first(monkeypatch):
    monkeypatch.setattr(index_module, "NEWEST_STEPS", 1)
    tables = credit_tables(entries())
    places = [(table["split"], table["first"], table["last"]) for table in tables]
    assert places == [("train", 24, 24), ("train", 1, 24), ("val", 0, 24)]
    newest, all_steps = tables[:2]
    assert newest["rows"] == credit_tables([e for e in entries() if e.step == 24])[0]["rows"]
    assert sum(row["trajectories"] for row in newest["rows"]) < sum(
        row["trajectories"] for row in all_steps["rows"]
    )
