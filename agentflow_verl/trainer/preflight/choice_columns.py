"""Multiple-choice golds that are a letter of their row's options, found from whole Arrow columns.

As in ``columns.py``, True is certain and False only means that the row has to be read by itself
(``rewards/choice.py``), as golds are that give an option's text.
"""

from __future__ import annotations

import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agentflow_verl.rewards.compute import ALIAS_KEYS
from agentflow_verl.trainer.preflight import columns

LETTERS = string.ascii_uppercase
LETTER_GOLD = "^[A-Za-z]$"
# "A. text", "(b) text". Narrower than options.LABEL: what matches here matches there.
LABEL = r"^ ?[(\[]?(?P<letter>[A-Za-z]) ?[.):\]] +"
# A beginning that options.LABEL never matches: two letters, a digit, a sign that is no bracket.
NO_LABEL = r"^(\p{L}\p{L}|[0-9]|[-+$\\'\"<=])"
# Whatever else such a text holds, it does not come down to a single letter, which would be read as
# the option of that text and not as the option's letter.
MORE_THAN_A_LETTER = r"(?s)[0-9]|\p{L}.*\p{L}"


def names_an_option(golds: pa.Array, extra_info: pa.Array | None) -> np.ndarray:
    """Golds of one letter that is a letter of ``extra_info.options``, where nothing else decides
    (further accepted answers, another order of the options).
    """
    if not columns.is_text(golds.type):
        return np.zeros(len(golds), dtype=bool)
    sure = columns.to_numpy(pc.match_substring_regex(golds, LETTER_GOLD))
    for name in ("shown", *ALIAS_KEYS):
        unset = columns.member(extra_info, name)
        if unset is not None:
            sure &= columns.to_numpy(unset.is_null())
    places = _places(golds)
    options = columns.member(extra_info, "options")
    if options is None:
        return sure
    if columns.is_list(options.type) and columns.is_text(options.type.value_type):
        return np.asarray(sure & _in_list(places, options))
    if pa.types.is_struct(options.type):
        return np.asarray(sure & _in_object(places, options))
    return np.zeros(len(golds), dtype=bool)


def _places(golds: pa.Array) -> np.ndarray:
    """0 for A, 1 for B, …; -1 for any other text and for null."""
    found = pc.index_in(pc.utf8_upper(golds), value_set=pa.array(list(LETTERS), golds.type))
    return np.asarray(pc.fill_null(found, -1).to_numpy(False), dtype=np.int64)


def _in_list(places: np.ndarray, options: pa.Array) -> np.ndarray:
    """Lists of texts: either one of them has no label, so that all are lettered in order, or all
    have the labels of this order.
    """
    texts = options.flatten()
    starts, ends = columns.bounds(options)
    unlabelled = columns.to_numpy(pc.match_substring_regex(texts, NO_LABEL))
    lettered = columns.any_within(unlabelled, starts, ends)
    at = np.arange(len(texts)) - np.repeat(starts, ends - starts)
    labels = pc.extract_regex(texts, LABEL)
    in_order = _places(columns.member(labels, "letter")) == at
    lettered |= columns.all_within(in_order, starts, ends)
    without_label = pc.replace_substring_regex(texts, LABEL, "")
    long = columns.to_numpy(pc.match_substring_regex(without_label, MORE_THAN_A_LETTER))
    few = ends - starts <= len(LETTERS)
    named = (places >= 0) & (places < ends - starts)
    return np.asarray(lettered & few & named & columns.all_within(long, starts, ends))


def _in_object(places: np.ndarray, options: pa.Array) -> np.ndarray:
    """Objects from letters to texts. A row has the keys of all rows, null where it lacks one."""
    names = [options.type.field(at).name for at in range(options.type.num_fields)]
    keys = [name.strip().upper() for name in names]
    named = np.zeros(len(places), dtype=bool)
    long = ~named
    if len(set(keys)) < len(keys):
        return named
    for name, key in zip(names, keys):
        texts = columns.member(options, name)
        if texts is None or not columns.is_text(texts.type):
            return np.zeros(len(places), dtype=bool)
        there = columns.to_numpy(texts.is_valid())
        long &= ~there | columns.to_numpy(pc.match_substring_regex(texts, MORE_THAN_A_LETTER))
        if key in set(LETTERS):
            named |= there & (places == LETTERS.index(key))
    return np.asarray(named & long)
