"""Short answers: exact match after normalisation, and F1."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.qa import match as qa
from agentflow_verl.rewards.qa.dates import dates_in
from agentflow_verl.rewards.qa.normalize import canonical_words

SAME = [
    ("james madison", "James Madison"),
    ("The Hungry", "hungry"),
    ("  Paris. ", "Paris"),
    ('"One World, One Dream"', "One World, One Dream"),
    ("Toghon Temur", "Toghon Temür"),
    ("Gulcicek Hatun", "Gülçiçek Hatun"),
    ("A. P. Moller", "A.P. Møller"),
    ("Ｐａｒｉｓ", "Paris"),
    ("Park Yejin", "Park Ye-jin"),
    ("Aloha Oe", "Aloha ʻOe"),
    ("Cats and Dogs", "Cats & Dogs"),
    ("Let’s Make Money", "Let'S Make Money"),
    ("S P Y S", "S*P*Y*S"),
    ("seven", "7"),
    ("7", "seven"),
    ("twenty-one", "21"),
    ("one hundred and five", "105"),
    ("two million", "2 million"),
    ("2,000,000", "2 million"),
    ("2.5 million", "2500000"),
    ("1,335,907", "1335907"),
    ("10.80", "10.8"),
    ("third largest", "third-largest"),
    ("3rd largest", "third-largest"),
    ("twenty-first century", "21st century"),
    ("30 April 1789", "April 30, 1789"),
    ("April 30th, 1789", "April 30, 1789"),
    ("the 30th of April, 1789", "April 30, 1789"),
    ("1789-04-30", "April 30, 1789"),
    ("30/04/1789", "April 30, 1789"),
    ("4/30/1789", "April 30, 1789"),
    ("Thursday, Apr. 30 1789", "April 30, 1789"),
    ("Sept 2013", "September 2013"),
    ("on 5 January 1964", "5 January 1964"),
    ("Yes", "yes"),
    ("Yes.", "yes"),
    ("Yes, both are American.", "yes"),
    ("No, they are not", "no"),
    ("no - one is French", "no"),
    ("1943-1992", "1943–1992"),
    ("1943 to 1992", "1943–1992"),
    ("from 1943 to 1992", "1943–1992"),
    ("1943–92", "1943-1992"),
    ("1939/40", "1939–40"),
    ("ca. 1500", "circa 1500"),
    ("May fourth", "May 4"),
    ("5 oz", "5 ounces"),
    ("10 sec", "10 seconds"),
    ("5 liters", "5 litres"),
    ("5 acre", "5 acres"),
    ("75,000-100,000", "75,000 to 100,000"),
    ("30%-65%", "30% to 65%"),
    ("92%", "92 percent"),
    ("92 per cent", "92 percent"),
    ("320 kilometres per hour", "320 km/h"),
    ("320km/h", "320 km/h"),
    ("4884 metres", "4,884 m"),
    ("3 miles", "approximately 3 mi"),
    ("about 575 ft", "about 575 feet"),
    ("312", "312 m"),
    ("72,641 dollars", "$72,641"),
    ("72641", "$72,641"),
    ("582 feet", "582 feet (177 m)"),
    ("10,310,371", "10,310,371 (2016 est.)"),
    ("323 BCE", "323 BC"),
    ("310 sq km", "310 square kilometers"),
    ("-5", "−5"),
    ("The The", "the the"),
    ("C++", "c++"),
    ("U.S.", "US"),
    ("東京", "東京"),
    ("?", "?"),
]

DIFFERENT = [
    ("", "yes"),
    (" ", "Paris"),
    ("London", "Paris"),
    ("Paris Hilton", "Paris"),
    ("John de Mol", "John de Mol Jr."),
    ("no", "yes"),
    ("yes and no", "yes"),
    ("Yes or no", "yes"),
    ("No idea", "no"),
    ("no information available", "no"),
    ("not sure", "no"),
    ("yesterday", "yes"),
    ("nobody", "no"),
    ("8", "seven"),
    ("-7", "7"),
    ("21", "12"),
    ("200,000", "2 million"),
    ("2", "2 million"),
    ("10.08", "10.8"),
    ("108", "10.8"),
    ("1 May 1789", "30 April 1789"),
    ("1789", "April 30, 1789"),
    ("April 1789", "April 30, 1789"),
    ("May 4, 1999", "April 4, 1999"),
    ("323", "323 BC"),
    ("323 AD", "323 BC"),
    ("45 percent", "45"),
    ("312 ft", "312 m"),
    ("€72,641", "$72,641"),
    ("1943", "1943–1992"),
    ("1943–93", "1943–1992"),
    ("1992–43", "1992–2043"),
    ("May fifth", "May 4"),
    ("5 oz", "5 lb"),
    ("1990s", "1990 seconds"),
    ("second largest", "third-largest"),
    ("C", "C++"),
    ("C#", "C"),
    ("George VII", "George VI"),
    ("U3", "U2"),
    ("James Madison or Monroe", "James Madison"),
    ("after", "before"),
    ("?", "!"),
    ("1 2", "12"),
    ("177 m", "582 feet"),
    ("New York, London", "New York"),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_the_same_answer_is_right(answer: str, gold: str) -> None:
    score = qa.score_short_answer(answer, gold)
    assert (score.value, score.lenient) == (1.0, 1.0), (
        canonical_words(answer),
        canonical_words(gold),
    )


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_answer_is_wrong(answer: str, gold: str) -> None:
    score = qa.score_short_answer(answer, gold)
    assert (score.value, score.lenient) == (0.0, 0.0), score.reason
    assert 0.0 <= score.f1 <= 1.0


def test_any_of_several_gold_answers_is_enough() -> None:
    assert qa.score_short_answer("Mumbai", ["Bombay", "Mumbai"]).value == 1.0
    assert qa.score_short_answer("Mumbai", {"target": ["Bombay", "Mumbai"]}).value == 1.0
    assert qa.score_short_answer("Mumbai", {"answer": "Bombay", "aliases": ["Mumbai"]}).value == 1.0
    with pytest.raises(ConfigError, match="no gold answer"):
        qa.score_short_answer("Mumbai", {"solution": "Bombay"})


def test_f1_counts_shared_words() -> None:
    assert qa.score_short_answer("Charles Tupper", "Charles Tupper Sr.").f1 == pytest.approx(0.8)
    assert qa.score_short_answer("x", ["y z", "x y"]).f1 == pytest.approx(2 / 3)
    assert qa.score_short_answer("yes it is", "yes it was so").f1 > 0
    assert qa.score_short_answer("no one", "no").f1 == 0.0


def test_an_ambiguous_date_matches_neither_reading() -> None:
    assert dates_in("4/5/1999") == dates_in("04.05.1999") == frozenset()
    assert dates_in("4/13/1999") == dates_in("13/4/1999") == {(1999, 4, 13)}
    assert dates_in("5/5/1999") == {(1999, 5, 5)}
    for reading in ("April 5, 1999", "4 May 1999", "1999-05-04"):
        assert qa.score_short_answer("4/5/1999", reading).value == 0.0
        assert qa.score_short_answer(reading, "4/5/1999").value == 0.0
    assert qa.score_short_answer("4/5/1999", "4/5/1999").value == 1.0
    assert dates_in("32 May 1999") == dates_in("Treaty of 1999") == dates_in("May") == frozenset()


@given(st.integers(0, 999_999))
def test_numbers_in_words_are_their_digits(value: int) -> None:
    assert canonical_words(spoken(value)) == [str(value)]


@given(st.text(st.characters(), min_size=1).filter(lambda text: text.strip()))
def test_every_text_matches_itself(text: str) -> None:
    assert qa.score_short_answer(text, text).value == 1.0


@given(
    st.text(st.characters()), st.text(st.characters(), min_size=1).filter(lambda text: text.strip())
)
def test_no_text_breaks_the_scorer(answer: str, gold: str) -> None:
    score = qa.score_short_answer(answer, gold)
    assert score.value in (0.0, 1.0) and 0.0 <= score.f1 <= 1.0


@given(
    st.text("ab12, .-", max_size=12),
    st.text("ab12, .-", min_size=1, max_size=12).filter(lambda text: text.strip()),
)
def test_f1_is_one_when_exact(answer: str, gold: str) -> None:
    score = qa.score_short_answer(answer, gold)
    assert score.exact == 0.0 or score.f1 == 1.0


@pytest.mark.parametrize(
    "piece", ["a", " ", "1,000", "-", "seven ", "(", "\u0301", "\ud800", "$", "yes "]
)
def test_a_megabyte_is_refused_within_a_second(piece: str) -> None:
    start = time.process_time()
    assert qa.score_short_answer(piece * (1_000_000 // len(piece)), "Paris").value == 0.0
    assert time.process_time() - start < 1.0


def spoken(value: int) -> str:
    small = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen"
    ).split()
    if value < 20:
        return small[value]
    if value < 100:
        tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()[value // 10 - 2]
        return tens + (f"-{small[value % 10]}" if value % 10 else "")
    if value < 1000:
        return f"{small[value // 100]} hundred" + (
            f" and {spoken(value % 100)}" if value % 100 else ""
        )
    rest = value % 1000
    return f"{spoken(value // 1000)} thousand" + (
        f" {'and ' if rest < 100 else ''}{spoken(rest)}" if rest else ""
    )
