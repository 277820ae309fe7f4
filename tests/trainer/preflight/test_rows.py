"""Every row of the data files is known to be usable before anything starts."""

from __future__ import annotations

import datetime
import shlex
import subprocess
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import registry
from agentflow_verl.rewards.score import right
from agentflow_verl.trainer.preflight import rows as row_checks
from agentflow_verl.trainer.preflight.data_files import DataFile, RowReader
from agentflow_verl.trainer.preflight.rows import RowCheck, check_data
from tests.trainer.preflight.runs import make_row, write_rows


def data_config(train: Any, val: Any = None, **data: Any) -> Any:
    node = {
        "train_files": train,
        "val_files": train if val is None else val,
        "train_batch_size": 2,
        "prompt_key": "prompt",
        **data,
    }
    own = {"custom_reward_function": {"path": None}}
    return OmegaConf.create({"data": node, "reward": own})


def refusal(train: Any, val: Any = None, **data: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        check_data(data_config(train, val, **data))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def row_refusal(tmp_path: Path, *, ending: str = ".parquet", **changes: Any) -> str:
    """What is said about the third of four rows, which has these changes."""
    rows = [make_row(), make_row(), make_row(**changes), make_row()]
    path = write_rows(tmp_path / f"train{ending}", rows)
    said = refusal(str(path))
    assert said.startswith(f"data.train_files: {path}, row 2: ")
    return said


@pytest.mark.parametrize("ending", [".parquet", ".json", ".jsonl"])
def test_all_files_that_verl_reads_are_checked(tmp_path, ending):
    path = write_rows(tmp_path / f"train{ending}", [make_row()] * 3)
    check_data(data_config(str(path)))
    row_refusal(tmp_path, ending=ending, prompt=[{"role": "user", "content": " "}])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.arrow", "a", "a.parquet.gz"])
def test_files_of_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_text("prompt,data_source\n")
    assert "verl reads files whose names end in .parquet, .json, .jsonl; convert it" in refusal(
        str(tmp_path / name)
    )


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("a.PARQUET", "a.parquet"),
        ("a.Jsonl", "a.jsonl"),
        ("a b.JSON", "a b.json"),
        ("a[1].parquet", "a_1].parquet"),
        ("a*.parquet", "a_.parquet"),
    ],
)
def test_a_name_that_verl_does_not_take_is_refused_with_the_command_that_renames(
    tmp_path, name, renamed
):
    path = tmp_path / name
    write_rows(path.with_suffix(path.suffix.lower()), [make_row()] * 3).rename(path)
    said = refusal(str(path))
    command = shlex.split(said[said.index(": mv ") + 2 :])
    assert command == ["mv", str(path), str(tmp_path / renamed)]
    subprocess.run(command, check=True)
    check_data(data_config(str(tmp_path / renamed)))


def test_a_folder_and_a_pattern_are_told_to_list_the_files(tmp_path):
    for name in ("b.parquet", "a.parquet"):
        write_rows(tmp_path / name, [make_row()] * 3)
    assert "is a folder: list the files in it" in refusal(str(tmp_path))
    listed = f"data.train_files=[{tmp_path}/a.parquet,{tmp_path}/b.parquet]"
    assert f"there is no file {tmp_path}/*.parquet; list the files: {listed}" in refusal(
        f"{tmp_path}/*.parquet"
    )


def test_files_whose_columns_differ_in_type_are_refused_as_verl_would_fail(tmp_path):
    """verl concatenates them: further columns and members are no matter, other types are."""
    one = str(write_rows(tmp_path / "one.parquet", [make_row()] * 2))
    more = {"extra_info": {"index": None, "split": "train"}, "level": 3}
    two = str(write_rows(tmp_path / "two.parquet", [make_row(**more)] * 2))
    check_data(data_config([one, two]))
    large = pq.read_table(one).cast(
        pa.schema([pa.field("data_source", pa.large_string()), *list(pq.read_schema(one))[1:]])
    )
    pq.write_table(large, tmp_path / "large.parquet")
    said = refusal([one, str(tmp_path / "large.parquet")])
    assert f"large.parquet cannot be read together with {one}: " in said
    assert "data_source" in said
    with pytest.raises(ValueError, match="aligned"):
        paths = [one, str(tmp_path / "large.parquet")]
        datasets.concatenate_datasets([datasets.Dataset.from_parquet(path) for path in paths])


@pytest.mark.parametrize("name", ["a.parquet", "a.json", "a.jsonl"])
@pytest.mark.parametrize("content", [b"", b"question,answer\n", b"\xff\xfe{\x00}\x00", b"PAR1"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert f"data.train_files: {tmp_path / name} is not a" in refusal(str(tmp_path / name))


def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [make_row()] * 9)
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not a parquet file" in refusal(str(path))


def test_a_file_without_rows_is_refused(tmp_path):
    whole = pa.Table.from_pylist([make_row()])
    pq.write_table(whole, tmp_path / "train.parquet")
    pq.write_table(whole.slice(0, 0), tmp_path / "none.parquet")
    good, none = str(tmp_path / "train.parquet"), str(tmp_path / "none.parquet")
    assert f"data.val_files: {none} has no rows" in refusal([good, good], none, train_batch_size=1)


def test_the_training_files_fill_a_batch_together(tmp_path):
    one = str(write_rows(tmp_path / "one.parquet", [make_row()] * 3))
    two = str(write_rows(tmp_path / "two.parquet", [make_row()] * 2))
    check_data(data_config([one, two], train_batch_size=5))
    assert "the 2 files have 5 rows, fewer than the 6" in refusal([one, two], train_batch_size=6)
    assert f"{one} has 3 rows, fewer than the 4" in refusal(one, train_batch_size=4)
    assert "data.train_max_samples=1" in refusal(one, train_max_samples=1)


@pytest.mark.parametrize(
    "prompt",
    [
        "What is 1+1?",
        [{"role": "user", "content": [{"type": "text", "text": "What is 1+1?"}]}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Why?"},
        ],
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_prompts_as_people_have_them_are_accepted(tmp_path, prompt, ending):
    path = write_rows(tmp_path / f"train{ending}", [make_row(prompt=prompt)] * 3)
    check_data(data_config(str(path)))


def test_prompts_that_verl_would_drop_by_their_length_are_refused(tmp_path):
    path = str(write_rows(tmp_path / "train.parquet", [make_row(prompt="Why?")] * 3))
    assert "set data.filter_overlong_prompts=false" in refusal(path, filter_overlong_prompts=True)


@pytest.mark.parametrize(
    ("source", "gold"),
    [
        ("gsm8k", 2),
        ("gsm8k", 2.5),
        ("gsm8k", ["2", "two"]),
        ("gsm8k", "So there are 18.\n#### 18"),
        ("searchR1_nq", {"target": ["Paris"]}),
        ("medqa", "B"),
        ("countdown", {"numbers": [1, 1], "target": 2}),
        ("gaia", "Paris"),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_golds_as_people_have_them_are_accepted(tmp_path, source, gold, ending):
    row = make_row(
        data_source=source,
        reward_model={"style": "rule", "ground_truth": gold},
        extra_info={"options": ["iron", "zinc"]},
    )
    check_data(data_config(str(write_rows(tmp_path / f"train{ending}", [row] * 3))))


def test_golds_of_several_types_in_one_json_file_are_read_as_verl_hands_them_on(tmp_path):
    golds = ["2", 3, ["a", "b"], {"target": ["x"]}]
    rows = [make_row(reward_model={"ground_truth": gold}) for gold in golds]
    path = write_rows(tmp_path / "train.jsonl", rows)
    check_data(data_config(str(path)))
    write_rows(path, [*rows, make_row(reward_model={"ground_truth": None})])
    assert "row 4: reward_model.ground_truth is None" in refusal(str(path))


@pytest.mark.parametrize(
    "gold", [None, "", " \n", float("nan"), [], [""], {"target": []}, {"target": None}]
)
def test_a_row_without_a_gold_is_refused(tmp_path, gold):
    changes = {"reward_model": {"style": "rule", "ground_truth": gold}}
    rows = [make_row(**changes)] * 3
    said = refusal(str(write_rows(tmp_path / "train.parquet", rows)))
    assert "row 0: reward_model.ground_truth is" in said
    assert "needs a gold answer" in said


def test_a_gold_that_a_json_reader_made_a_date_is_refused(tmp_path):
    rows = [make_row(reward_model={"ground_truth": "2024-05-01"})] * 3
    assert "type datetime: write it as a string" in refusal(
        str(write_rows(tmp_path / "train.jsonl", rows))
    )
    check_data(data_config(str(write_rows(tmp_path / "train.parquet", rows))))
    dated = [make_row(reward_model={"ground_truth": datetime.date(2024, 5, 1)})] * 3
    assert "type date: write it as a string" in refusal(
        str(write_rows(tmp_path / "dated.parquet", dated))
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reward_model": None}, "reward_model is null"),
        ({"prompt": None}, "prompt is null"),
        ({"prompt": []}, "no user message"),
        ({"data_source": None}, "data_source is null"),
        ({"data_source": "riddles"}, "no scorer for data source 'riddles'"),
        ({"agent_name": "tool_agent"}, "agent_name is 'tool_agent': this run trains"),
        ({"images": ["a.png"]}, "images is not empty"),
        ({"extra_info": {"scorer": "qaa"}}, "unknown scorer 'qaa', did you mean 'qa'?"),
    ],
)
def test_what_is_wrong_in_one_row_is_named_with_the_row(tmp_path, changes, named):
    rows = [make_row(agent_name="agentflow", images=[])] * 2
    rows += [{**rows[0], **changes}, rows[0]]
    path = write_rows(tmp_path / "train.parquet", rows)
    said = refusal(str(path))
    assert said.startswith(f"data.train_files: {path}, row 2: ")
    assert named in said


def test_an_agent_name_that_is_null_in_some_rows_is_refused(tmp_path):
    rows = [make_row(agent_name="agentflow"), make_row(agent_name=None)]
    assert "row 1: agent_name is None" in refusal(str(write_rows(tmp_path / "train.parquet", rows)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"extra_info": '{"index": 0}'}, "extra_info is str"),
        ({"extra_info": [1]}, "extra_info is list"),
        ({"reward_model": "2"}, "reward_model is str"),
        ({"reward_model": {"answer": "2"}}, "reward_model.ground_truth is None"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path, changes, named):
    rows = [make_row(**changes)] * 2
    assert f"row 0: {named}" in refusal(str(write_rows(tmp_path / "train.parquet", rows)))


def test_missing_columns_are_named(tmp_path):
    path = write_rows(tmp_path / "train.parquet", [{"prompt": "Why?"}] * 2)
    assert "has no column data_source, reward_model" in refusal(str(path))


def test_an_unknown_data_source_is_told_every_way_out(tmp_path):
    said = row_refusal(tmp_path, data_source="riddles")
    for way in ("rename it", "extra_info (scorer: ", "reward.custom_reward_function.path=FILE"):
        assert way in said


def test_a_function_of_the_users_own_needs_neither_scorer_nor_gold(tmp_path):
    rows = [make_row(data_source="riddles", reward_model={"ground_truth": None})] * 2
    config = data_config(str(write_rows(tmp_path / "train.parquet", rows)))
    with pytest.raises(ConfigError):
        check_data(config)
    config.reward.custom_reward_function.path = "mine.py"
    check_data(config)


def test_a_scorer_that_the_user_registered_reads_golds_as_it_likes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry, "SCORERS", {**registry.SCORERS, "vibes": lambda *_, **__: right("")}
    )
    rows = [make_row(extra_info={"scorer": "vibes"}, reward_model={"ground_truth": None})] * 2
    check_data(data_config(str(write_rows(tmp_path / "train.parquet", rows))))


def test_categories_are_read_as_their_values(tmp_path):
    table = pa.Table.from_pylist([make_row()] * 3)
    encoded = table.column("data_source").dictionary_encode()
    pq.write_table(table.set_column(0, "data_source", encoded), tmp_path / "train.parquet")
    check_data(data_config(str(tmp_path / "train.parquet")))


def test_a_long_file_says_how_far_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(row_checks, "REPORT_EVERY_S", 0.0)
    path = write_rows(tmp_path / "train.parquet", [make_row()] * 3)
    with caplog.at_level("INFO"):
        check_data(data_config(str(path)))
    assert f"data.train_files: {path}: 3 of 3 rows checked" in caplog.text


def choice_row(gold: Any, options: Any, **extra: Any) -> dict[str, Any]:
    extra_info = {"options": options, **extra}
    return make_row(data_source="medqa", reward_model={"ground_truth": gold}, extra_info=extra_info)


@pytest.mark.parametrize(
    ("gold", "options"),
    [
        ("C", ["iron", "zinc"]),
        ("C", {"A": "iron", "B": "zinc", "C": None}),
        ("A", ["A", "a", "zinc"]),
        ("A", {"A": "B", "B": "A", "C": "A."}),
        ("C", ["A. iron", "B. zinc", "D. lead"]),
        ("gold", ["iron", "zinc"]),
        ("zinc", ["zinc", "Zinc"]),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_gold_that_is_no_option_or_several_is_refused(tmp_path, gold, options, ending):
    good = choice_row("B", {name: "iron" if name == "A" else "zinc" for name in options})
    if isinstance(options, list):
        good = choice_row("B", ["iron", "zinc"])
    path = write_rows(tmp_path / f"train{ending}", [good, choice_row(gold, options)])
    assert "row 1: gold answer" in refusal(str(path))


def test_options_of_several_types_in_one_json_file_are_read_as_verl_hands_them_on(tmp_path):
    good = [choice_row("B", ["iron", "zinc"]), choice_row("B", {"A": "iron", "B": "zinc"})]
    path = write_rows(tmp_path / "train.jsonl", good)
    check_data(data_config(str(path)))
    wrong = choice_row("iron or zinc", ["iron", "zinc"])
    assert "row 2: gold answer" in refusal(str(write_rows(path, [*good, wrong])))


def test_bytes_that_are_no_utf_8_are_named(tmp_path):
    golds = pa.array(["2", "3"]).cast(pa.binary()).to_pylist()
    golds[1] = b"\xe9t\xe9"
    rows = [make_row(), make_row()]
    table = pa.Table.from_pylist(rows)
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array(golds, pa.binary()).buffers())
    gold = pa.StructArray.from_arrays([texts], ["ground_truth"])
    at = table.schema.get_field_index("reward_model")
    pq.write_table(table.set_column(at, "reward_model", gold), tmp_path / "train.parquet")
    assert "rows 0 to 1: text that is not UTF-8" in refusal(str(tmp_path / "train.parquet"))


def test_plain_rows_are_settled_without_a_python_object_each(tmp_path, monkeypatch):
    """Whole columns are looked at, so 400,000 rows take a few seconds."""
    parts = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    plain_rows = [
        [make_row()],
        [make_row(prompt="Why?")],
        [make_row(prompt=parts)],
        [make_row(reward_model={"ground_truth": ["a", "b"]})],
        [make_row(reward_model={"ground_truth": 2})],
        [make_row(data_source="nq", reward_model={"ground_truth": {"target": ["a"]}})],
        [choice_row("B", ["iron", "zinc", "lead"])],
        [choice_row("c", ["A. iron", "B. zinc", "C. lead"])],
        [choice_row("B", {"A": "iron", "B": "zinc", "C": None})],
        [choice_row("Zinc.", ["iron", "zinc"])],
        [choice_row("B", [{"label": "A", "text": "iron"}, {"label": "B", "text": "zinc"}])],
        [make_row(data_source="mmlu", reward_model={"ground_truth": "B"})],
    ]
    monkeypatch.setattr(RowCheck, "check_row", lambda *_: pytest.fail("read by itself"))
    for number, rows in enumerate(plain_rows):
        check_data(data_config(str(write_rows(tmp_path / f"{number}.parquet", rows * 3))))


texts = st.sampled_from(
    [None, "", " ", "\u2003", "a", "B", "[{", "\x1c", "#### ", "8 #### 18", '[""]', '["b"]']
)
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image", None]), "text": texts})
roles = st.sampled_from(["user", "user", "assistant", "system", "tool", "bot", None])
CONTENTS = [texts, st.lists(parts, max_size=2)]
GOLDS = [
    texts,
    st.sampled_from([None, 0.0, float("nan")]),
    st.lists(texts, max_size=2),
    st.fixed_dictionaries({"target": st.lists(texts, max_size=2), "other": texts}),
]
OPTION_TEXTS = [
    "iron",
    "zinc",
    "A",
    "Ｂ.",
    "5",
    "A. iron",
    "(b) zinc",
    "B.\u00a0lead",
    "é",
    " ",
    None,
]
LIKELY_OPTIONS = ["iron", "zinc oxide", "lead", "A. iron", "B. zinc"]
option_texts = st.sampled_from(OPTION_TEXTS)
RECORD = {"label": st.sampled_from(["A", "B", "b", None]), "text": option_texts}
OPTIONS = [
    st.lists(st.sampled_from(LIKELY_OPTIONS), max_size=4),
    st.lists(option_texts, max_size=4),
    st.fixed_dictionaries(dict.fromkeys(["A", "B", "C"], option_texts)),
    st.fixed_dictionaries(dict.fromkeys(["a", " B", "AB", ""], st.sampled_from(LIKELY_OPTIONS))),
    st.fixed_dictionaries(dict.fromkeys(["A", "a", "text"], option_texts)),
    st.lists(st.fixed_dictionaries(RECORD), max_size=3),
    st.sampled_from(["A", "iron, zinc", None]),
]
CHOICE_GOLDS = [
    st.sampled_from(["A", "B", "b", "C", "D"]),
    st.sampled_from(["A", "b.", "(B)", "B. zinc", "zinc", "Iron", "é", "5", "", None, "J\u0307"]),
    st.lists(st.sampled_from(["A", "B", "iron"]), max_size=2),
    st.sampled_from([0, 1, 5]),
]


@st.composite
def rows_of_one_schema(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few rows whose columns have one type each, and values that are often wrong."""
    message = st.fixed_dictionaries({"role": roles, "content": draw(st.sampled_from(CONTENTS))})
    prompts = draw(st.sampled_from([texts, st.none() | st.lists(message, max_size=3)]))
    gold = st.fixed_dictionaries({"ground_truth": draw(st.sampled_from(GOLDS))})
    optional = {
        "extra_info": st.none() | st.fixed_dictionaries({"scorer": st.sampled_from([None, "qa"])}),
        "agent_name": st.sampled_from([None, "agentflow", "agentflow", "other"]),
        "images": st.none() | st.lists(st.just("a.png"), max_size=1),
    }
    columns = {
        "data_source": st.sampled_from(["gsm8k", "nq", "riddles", "medqa", None]),
        "prompt": prompts,
        "reward_model": st.none() | gold,
    }
    for name in draw(st.sets(st.sampled_from(sorted(optional)))):
        columns[name] = optional[name]
    return draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=4))


@st.composite
def choice_rows_of_one_schema(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few rows of multiple choice whose golds are often no option, or more than one."""
    further = {
        "shown": st.sampled_from([None, "BA", "CAB"]),
        "answer_aliases": st.none() | st.lists(st.sampled_from(["A", "iron"]), max_size=1),
        "scorer": st.sampled_from([None, None, "choice", "qa"]),
    }
    extra = {"options": st.none() | draw(st.sampled_from(OPTIONS))}
    for name in draw(st.sets(st.sampled_from(sorted(further)), max_size=1)):
        extra[name] = further[name]
    columns = {
        "data_source": st.sampled_from(["medqa", "mmlu", "medqa", "gsm8k"]),
        "prompt": st.just("Which one?"),
        "reward_model": st.fixed_dictionaries(
            {"ground_truth": draw(st.sampled_from(CHOICE_GOLDS))}
        ),
        "extra_info": st.fixed_dictionaries(extra),
    }
    return draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def assert_columns_and_rows_agree(path: Path) -> None:
    """The check of a file says what the check of each of its rows says."""
    check = RowCheck("prompt", custom_reward=False, drops_long_prompts=False)
    reader = RowReader(DataFile("train_files", str(path)))
    refused = None
    for number, row in enumerate(pq.read_table(path).to_pylist()):
        try:
            check.check_row(row)
        except ConfigError as wrong:
            refused = f"data.train_files: {path}, row {number}: {wrong}"
            break
    try:
        check.check(reader)
        found = None
    except ConfigError as wrong:
        found = str(wrong)
    assert found == refused


@given(rows=rows_of_one_schema())
def test_no_row_is_settled_by_its_columns_that_would_be_refused_by_itself(folder, rows):
    assert_columns_and_rows_agree(write_rows(folder / "any.parquet", rows))


@settings(max_examples=100)
@given(rows=choice_rows_of_one_schema())
def test_no_choice_is_settled_by_its_columns_that_would_be_refused_by_itself(folder, rows):
    assert_columns_and_rows_agree(write_rows(folder / "choice.parquet", rows))
