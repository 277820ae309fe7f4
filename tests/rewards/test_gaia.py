"""GAIA's normalised match: hand-written cases in the manner of its gold answers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import gaia
from agentflow_verl.rewards.compute import compute_score

SAME = [
    ("17", "17"),
    ("17.0", "17"),
    ("$17", "17"),
    ("17 %", "17"),
    ("1,234", "1234"),
    ("1234", "1,234"),
    ("$1,234.50", "1234.5"),
    ("89706", "89706.00"),
    ("+4.6", "4.6"),
    (".5", "0.50"),
    ("−3", "-3"),
    ("1e3", "1000"),
    ("0.00", "0"),
    ("-0", "0"),
    ("egalitarian", "Egalitarian"),
    ("saint petersburg", "Saint Petersburg"),
    ("SaintPetersburg", "Saint Petersburg"),
    ("St. Petersburg!", "St Petersburg"),
    ("three-quarters", "three quarters"),
    ("THE CASTLE", "The Castle"),
    ("“Rockhopper penguin”", "Rockhopper penguin"),
    ("b, e", "b,e"),
    ("B,E", "b, e"),
    ("pears; bananas", "pears, bananas"),
    ("3.1.3.1; 1.11.1.7", "3.1.3.1;1.11.1.7"),
    ("132,133,134", "132, 133, 134"),
    ("1, 2.0, 3", "1,2,3"),
    ("(¬A → B) ↔ (A ∨ ¬B)", "(¬A→B)↔(A∨¬B)"),
    ("Ｐａｒｉｓ", "Paris"),
    ("&", "&"),
    ("1:41.614", "1:41.614"),
    ("04/15/18", "04-15-18"),
    ("16/03/2020", "16-03-2020"),
    ("10^5", "10^5"),
    ("2.5 Million", "2.5 million"),
    ("–5", "-5"),
    ("War is not here, this is a land of peace", "war is not here,this is a land of peace."),
]

DIFFERENT = [
    ("", "17"),
    (" ", "Paris"),
    ("18", "17"),
    ("-17", "17"),
    ("17 thousand", "17000"),
    ("17 km", "17"),
    ("about 17", "17"),
    ("seventeen", "17"),
    ("17.01", "17"),
    ("17 or 18", "17"),
    ("170", "17"),
    ("1.7e1x", "17"),
    ("nan", "17"),
    ("inf", "17"),
    ("1/2", "0.5"),
    ("12", "1/2"),
    ("1.2", "1/2"),
    ("105", "10^5"),
    ("25 million", "2.5 million"),
    ("141.614", "1:41.614"),
    ("١٧", "17"),
    ("12,34", "1234"),
    ("egalitarian society", "egalitarian"),
    ("Petersburg", "Saint Petersburg"),
    ("The Beatles", "Beatles"),
    ("Sao Paulo", "São Paulo"),
    ("e, b", "b, e"),
    ("b", "b, e"),
    ("b, e, f", "b, e"),
    ("b, ", "b, e"),
    ("132, 133", "132, 133, 134"),
    ("132, 133, 135", "132, 133, 134"),
    ("1, two, 3", "1, 2, 3"),
    ("A ∧ B", "A ∨ B"),
    ("*", "&"),
    ("", "&"),
    ("June 14, 2020", "14 June 2020"),
    ("Yes", "No"),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_the_same_answer_is_right(answer: str, gold: str) -> None:
    assert gaia.score_gaia(answer, gold).value == 1.0, gaia.score_gaia(answer, gold).reason


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_answer_is_wrong(answer: str, gold: str) -> None:
    assert gaia.score_gaia(answer, gold).value == 0.0, gaia.score_gaia(answer, gold).reason


def test_the_data_source_gaia_is_judged_by_it() -> None:
    result = compute_score("gaia", "It follows.\n<answer>$1,234</answer>", "1234")
    assert (result["score"], result["scorer"]) == (1.0, "gaia")
    with pytest.raises(ConfigError, match="no gold answer"):
        gaia.score_gaia("17", "")


@given(st.text(st.characters(), min_size=1, max_size=200).filter(lambda text: text.strip()))
def test_every_text_matches_itself(text: str) -> None:
    assert gaia.score_gaia(text, text).value == 1.0


@given(
    st.text(st.characters()), st.text(st.characters(), min_size=1).filter(lambda text: text.strip())
)
def test_no_text_breaks_the_scorer(answer: str, gold: str) -> None:
    assert gaia.score_gaia(answer, gold).value in (0.0, 1.0)


@given(st.decimals(-(10**9), 10**9, places=3), st.decimals(-(10**9), 10**9, places=3))
def test_two_numbers_agree_only_when_equal(one, other) -> None:
    assert gaia.score_gaia(f"${one:,}", str(other)).value == float(one == other)


@pytest.mark.parametrize("piece", ["9", "1,", "-", "e", " ", ";", "\ud800", "1e9", "."])
@pytest.mark.parametrize("length", [1_990, 1_000_000])
def test_long_answers_take_less_than_a_second(piece: str, length: int) -> None:
    start = time.process_time()
    assert gaia.score_gaia(piece * (length // len(piece)), "17").value == 0.0
    assert time.process_time() - start < 1.0
