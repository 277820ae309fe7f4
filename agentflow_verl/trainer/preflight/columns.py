"""Questions about whole Arrow columns, answered without making a Python object per row.

Each function returns a Boolean NumPy array, one value per row. True is certain; False only means
that the row has to be read by itself.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agentflow_verl.flow.question import ROLES
from agentflow_verl.rewards.score import GOLD_KEYS, SOLUTION_MARK

KNOWN_ROLES = pa.array(sorted(ROLES))


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def has_question(prompts: pa.Array) -> np.ndarray:
    """Prompts of text that end with what the user asks."""
    kind = prompts.type
    if is_text(kind):
        looks_like_json = pc.starts_with(pc.utf8_ltrim_whitespace(prompts), "[")
        return np.asarray(_has_text(prompts) & ~to_numpy(looks_like_json))
    if not is_list(kind) or not pa.types.is_struct(kind.value_type):
        return _none_of(prompts)
    messages = prompts.flatten()
    roles, contents = member(messages, "role"), member(messages, "content")
    if roles is None or contents is None or not is_text(roles.type):
        return _none_of(prompts)
    readable, has_text = _content_text(contents)
    readable &= to_numpy(pc.is_in(roles, value_set=KNOWN_ROLES))
    asks = to_numpy(pc.equal(roles, "user")) & has_text
    starts, ends = bounds(prompts)
    asked = all_within(readable, starts, ends) & _last_within(asks, starts, ends)
    return np.asarray((ends > starts) & asked)


def _content_text(contents: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which contents consist of text, and which of these have any."""
    if is_text(contents.type):
        return to_numpy(contents.is_valid()), _has_text(contents)
    if not is_list(contents.type):
        return _none_of(contents), _none_of(contents)
    parts = contents.flatten()
    kinds, texts = member(parts, "type"), member(parts, "text")
    if kinds is None or texts is None or not is_text(kinds.type) or not is_text(texts.type):
        return _none_of(contents), _none_of(contents)
    starts, ends = bounds(contents)
    are_text = to_numpy(pc.equal(kinds, "text")) & to_numpy(texts.is_valid())
    return all_within(are_text, starts, ends), any_within(_has_text(texts), starts, ends)


def has_gold(reward_models: pa.Array) -> np.ndarray:
    """Objects whose ``ground_truth`` is text or a number, a list that holds one, or an object with
    either at a key that scorers read.
    """
    golds = member(reward_models, "ground_truth")
    if golds is None:
        return _none_of(reward_models)
    found = _has_answer(golds)
    for key in GOLD_KEYS:
        answers = member(golds, key)
        if answers is not None:
            found |= _has_answer(answers)
    return found


def _has_answer(golds: pa.Array) -> np.ndarray:
    if not is_list(golds.type):
        return _has_value(golds)
    starts, ends = bounds(golds)
    return any_within(_has_value(golds.flatten()), starts, ends)


def is_object(values: pa.Array) -> np.ndarray:
    if not pa.types.is_struct(values.type):
        return _none_of(values)
    return to_numpy(values.is_valid())


def is_object_or_null(values: pa.Array) -> np.ndarray:
    if pa.types.is_struct(values.type):
        return np.ones(len(values), dtype=bool)
    return to_numpy(values.is_null())


def is_empty(values: pa.Array) -> np.ndarray:
    """Null, or a list without members."""
    empty = to_numpy(values.is_null())
    if is_list(values.type):
        starts, ends = bounds(values)
        empty |= starts == ends
    return empty


def equals(values: pa.Array, text: str) -> np.ndarray:
    if not is_text(values.type):
        return _none_of(values)
    return to_numpy(pc.equal(values, text))


def member(objects: pa.Array | None, name: str) -> pa.Array | None:
    """The member ``name`` of each object, null where the object is; None where none has it."""
    if objects is None or not pa.types.is_struct(objects.type):
        return None
    if objects.type.get_field_index(name) < 0:
        return None
    return pc.struct_field(objects, name)


def groups(sources: pa.Array, scorers: pa.Array | None) -> dict[tuple[str, str | None], np.ndarray]:
    """The row numbers of each pair of data source and named scorer."""
    keys = [sources] if scorers is None else [sources, scorers]
    codes = np.zeros(len(sources), dtype=np.int64)
    for column in keys:
        encoded = column.dictionary_encode(null_encoding="encode")
        codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(False)
    found = {}
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        at = int(rows[0])
        scorer = None if scorers is None else scorers[at].as_py()
        found[sources[at].as_py(), scorer] = rows
    return found


def _has_value(values: pa.Array) -> np.ndarray:
    kind = values.type
    if is_text(kind):
        return _has_answer_text(values)
    if pa.types.is_floating(kind):
        return to_numpy(pc.invert(pc.is_nan(values)))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return to_numpy(values.is_valid())
    return _none_of(values)


def _has_text(values: pa.Array) -> np.ndarray:
    return to_numpy(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0))


def _has_answer_text(values: pa.Array) -> np.ndarray:
    """Text that is an answer as it stands, or that ends in one behind GSM8K's mark. A list written
    as JSON has to be read.
    """
    trimmed = pc.utf8_trim_whitespace(values)
    unsure = pc.or_(pc.ends_with(trimmed, SOLUTION_MARK), pc.starts_with(values, '["'))
    return np.asarray(_has_text(values) & ~to_numpy(unsure))


def bounds(lists: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where each list begins and ends in ``lists.flatten()``, which leaves out what is null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(False)
    ends = np.cumsum(lengths, dtype=np.int64)
    return ends - lengths, ends


def _count_within(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(before[ends] - before[starts])


def all_within(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.asarray(_count_within(values, starts, ends) == ends - starts)


def any_within(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return _count_within(values, starts, ends) > 0


def _last_within(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The last value of each stretch; False for an empty one."""
    return any_within(values, np.maximum(ends - 1, starts), ends)


def to_numpy(values: pa.Array) -> np.ndarray:
    """A Boolean column, null as False."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)


def _none_of(values: pa.Array) -> np.ndarray:
    return np.zeros(len(values), dtype=bool)


def holds_json_text(kind: pa.DataType) -> bool:
    """Whether a member, at any depth, is of an extension type: the JSON reader stores a member of
    mixed types as JSON text and hands it on decoded.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return True
    return any(holds_json_text(kind.field(at).type) for at in range(kind.num_fields))


def decoded(values: pa.Array) -> pa.Array:
    """A dictionary-encoded column (pandas' categories) as its values."""
    if pa.types.is_dictionary(values.type):
        return values.dictionary_decode()
    return values
