"""Every row of the data files can be asked and scored, known before anything starts.

Columns are looked at as a whole first: most rows have the plain form (a prompt of text messages
that ends with the user's question, a gold that is text or a number) and are settled by a few Arrow
kernels. The others are read one by one by ``parse_row``, which is what the run itself does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.question import MEDIA_COLUMNS, has_answer, parse_row
from agentflow_verl.rewards import registry
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.trainer.preflight import choice_columns, columns
from agentflow_verl.trainer.preflight.data_files import (
    KEYS,
    DataFile,
    RowReader,
    check_together,
    local_files,
)

logger = logging.getLogger(__name__)

AGENT_LOOP = "agentflow"
REPORT_EVERY_S = 3.0
ROWS_AT_ONCE = 1_000  # Python objects of so many rows at a time
# Scorers of this package that need no more of a row than some gold answer.
GOLD_IS_ENOUGH = ("maths", "qa")
CHOICE = "choice"
OWN_FUNCTION = (
    "; or score it with a function of your own: reward.custom_reward_function.path=FILE"
    " reward.custom_reward_function.name=FUNCTION"
)


def check_data(config: DictConfig) -> None:
    """Raises ConfigError for the first file or row that a run could not use."""
    reading = RowCheck.from_config(config)
    seen: set[str] = set()
    for key in KEYS:
        files = local_files(config, key)
        readers = [RowReader(file) for file in files]
        _check_count(config, key, files, readers)
        check_together(files, readers)
        for reader in readers:
            if reader.file.name not in seen:
                seen.add(reader.file.name)
                reading.check(reader)


def custom_reward_path(config: DictConfig) -> str | None:
    """The file or module of the user's own reward function, where there is one."""
    path = OmegaConf.select(config, "reward.custom_reward_function.path")
    return None if path is None else str(path)


def _check_count(
    config: DictConfig, key: str, files: list[DataFile], readers: list[RowReader]
) -> None:
    """No file is empty, and the training files fill a batch."""
    for reader in readers:
        if reader.rows == 0:
            raise ConfigError(f"{reader.file.where} has no rows")
    named = config.data[key]
    if key != "train_files" or len(files) < (1 if isinstance(named, str) else len(named)):
        return
    rows, needed = sum([reader.rows for reader in readers]), config.data.train_batch_size
    limit = config.data.get("train_max_samples", -1)
    if 0 < limit < min(rows, needed):
        raise ConfigError(
            f"data.train_max_samples={limit} is fewer than the {needed} rows that one batch needs"
            " (data.train_batch_size)"
        )
    if rows < needed:
        where = files[0].where if len(files) == 1 else f"data.{key}: the {len(files)} files"
        verb = "has" if len(files) == 1 else "have"
        raise ConfigError(
            f"{where} {verb} {rows} rows, fewer than the {needed} that one batch needs"
            " (data.train_batch_size)"
        )


@dataclass
class RowCheck:
    """What the rows of a run must have."""

    prompt_key: str
    custom_reward: bool
    drops_long_prompts: bool
    media_columns: tuple[str, ...] = MEDIA_COLUMNS
    scorer_names: dict[tuple[Any, Any], str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: DictConfig) -> RowCheck:
        data = config.data
        return cls(
            prompt_key=data.prompt_key,
            custom_reward=custom_reward_path(config) is not None,
            drops_long_prompts=bool(data.get("filter_overlong_prompts", False)),
            media_columns=tuple(
                data.get(name, default)
                for name, default in zip(("image_key", "video_key", "audio_key"), MEDIA_COLUMNS)
            ),
        )

    def check(self, reader: RowReader) -> None:
        """All rows of a file. Raises ConfigError with the file and the row, counted from 0."""
        file, names = reader.file, reader.schema.names
        missing = {self.prompt_key, "data_source", "reward_model"} - set(names)
        if missing:
            raise ConfigError(f"{file.where} has no column {', '.join(sorted(missing))}")
        self._check_prompt_type(reader)
        optional = ("extra_info", "agent_name", *self.media_columns)
        wanted = [self.prompt_key, "data_source", "reward_model"]
        wanted += [name for name in optional if name in names]
        progress, done = _Progress(file, reader.rows), 0
        for batch in reader.batches(wanted):
            self._check_batch(reader, batch, done)
            done += batch.num_rows
            progress.report(done)

    def _check_prompt_type(self, reader: RowReader) -> None:
        kind = reader.schema.field(self.prompt_key).type
        if self.drops_long_prompts and columns.is_text(kind):
            raise ConfigError(
                f"{reader.file.where}: {self.prompt_key} is a string, and verl measures only lists"
                " of messages: set data.filter_overlong_prompts=false"
            )

    def _check_batch(self, reader: RowReader, batch: pa.RecordBatch, first: int) -> None:
        open_rows = np.flatnonzero(~self._settled(batch))
        for start in range(0, len(open_rows), ROWS_AT_ONCE):
            numbers = open_rows[start : start + ROWS_AT_ONCE]
            rows = reader.python_rows(batch, first, numbers)
            for number, row in zip(numbers.tolist(), rows):
                try:
                    self.check_row(row)
                except ConfigError as wrong:
                    raise ConfigError(
                        f"{reader.file.where}, row {first + number}: {wrong}"
                    ) from None

    def _settled(self, batch: pa.RecordBatch) -> np.ndarray:
        """Which rows are certainly right, from their columns."""
        values = {name: columns.decoded(batch.column(name)) for name in batch.schema.names}
        formed = self._well_formed(values)
        if self.custom_reward:
            return formed
        formed &= columns.has_gold(values["reward_model"])
        settled = np.zeros(batch.num_rows, dtype=bool)
        extra = values.get("extra_info")
        for scorer, rows in self._rows_by_scorer(values["data_source"], extra).items():
            if scorer in GOLD_IS_ENOUGH:
                settled[rows] = formed[rows]
            elif scorer == CHOICE:
                settled[rows] = self._has_option(values["reward_model"], extra, formed)[rows]
        return settled

    def _well_formed(self, values: Mapping[str, pa.Array]) -> np.ndarray:
        """Rows of text whose columns are of the types that the run reads, whatever their gold."""
        sure = columns.has_question(values[self.prompt_key])
        for name in self.media_columns:
            if name in values:
                sure &= columns.is_empty(values[name])
        if "agent_name" in values:
            sure &= columns.equals(values["agent_name"], AGENT_LOOP)
        sure &= columns.is_object(values["reward_model"])
        if "extra_info" in values:
            sure &= columns.is_object_or_null(values["extra_info"])
        return sure

    def _rows_by_scorer(self, sources: pa.Array, extra: pa.Array | None) -> dict[str, np.ndarray]:
        """The numbers of the rows of each known scorer."""
        scorers = columns.member(extra, "scorer")
        found: dict[str, np.ndarray] = {}
        if not columns.is_text(sources.type) or not (
            scorers is None or columns.is_text(scorers.type)
        ):
            return found
        for (source, scorer), rows in columns.groups(sources, scorers).items():
            try:
                name = self._scorer_name(source, scorer)
            except ConfigError:
                continue  # read one by one, the first of them is named
            found[name] = np.concatenate([found.get(name, rows[:0]), rows])
        return found

    def _has_option(
        self, reward_models: pa.Array, extra: pa.Array | None, formed: np.ndarray
    ) -> np.ndarray:
        """Of the well-formed rows those whose gold is one of their options: by whole columns where
        it is a letter, else as the scorer reads gold and options, without the rest of the row.
        """
        golds = columns.member(reward_models, "ground_truth")
        if golds is None or not formed.any():
            return np.zeros(len(formed), dtype=bool)
        found = np.asarray(formed & choice_columns.names_an_option(golds, extra))
        if extra is not None and columns.holds_json_text(extra.type):
            return found
        others = np.flatnonzero(formed & ~found)
        for start in range(0, len(others), ROWS_AT_ONCE):
            rows = others[start : start + ROWS_AT_ONCE]
            asked = golds.take(pa.array(rows)).to_pylist()
            infos = [None] * len(rows)
            if extra is not None:
                infos = extra.take(pa.array(rows)).to_pylist()
            found[rows] = [_is_option(gold, info) for gold, info in zip(asked, infos)]
        return found

    def check_row(self, row: Mapping[str, Any]) -> None:
        """One row, as the run would read and score it. Raises ConfigError."""
        if "agent_name" in row and row["agent_name"] != AGENT_LOOP:
            raise ConfigError(
                f"agent_name is {row['agent_name']!r}: this run trains the agent loop"
                f" {AGENT_LOOP!r}; write that, or drop the column"
            )
        if row.get("reward_model") is None:
            raise ConfigError("reward_model is null: it must be an object with ground_truth")
        parsed = parse_row(row, self.prompt_key, self.media_columns)
        if self.custom_reward:
            return
        if row["data_source"] is None:
            raise ConfigError("data_source is null, so no scorer is known for it")
        name = self._scorer_name(parsed.data_source, parsed.extra_info.get("scorer"))
        if not _is_built_in(name):
            return
        if not has_answer(parsed.gold):
            raise ConfigError(
                f"reward_model.ground_truth is {parsed.gold!r}, and the scorer {name!r} needs a"
                " gold answer there"
            )
        score_answer(parsed.data_source, "", parsed.gold, parsed.scorer_extra)

    def _scorer_name(self, source: Any, scorer: Any) -> str:
        key = (source, scorer)
        if key not in self.scorer_names:
            try:
                name = scorer or registry.scorer_name(source)
                registry.scorer(name)
            except ConfigError as wrong:
                raise ConfigError(f"{wrong}{OWN_FUNCTION}") from None
            self.scorer_names[key] = name
        return self.scorer_names[key]


def _is_option(gold: Any, extra_info: Mapping[str, Any] | None) -> bool:
    """Whether the scorer of multiple choice finds the gold among the row's options."""
    try:
        score_answer(CHOICE, "", gold, extra_info)
    except ConfigError:
        return False  # the row is read by itself, and named with its number
    return True


def _is_built_in(scorer: str) -> bool:
    """Whether the scorer is of this package. One that a user registered reads golds as it likes."""
    return registry.scorer(scorer).__module__.startswith("agentflow_verl.")


class _Progress:
    """Tells the log how far a long file has been checked."""

    def __init__(self, file: DataFile, rows: int):
        self.file, self.rows = file, rows
        self.next_report = time.monotonic() + REPORT_EVERY_S

    def report(self, done: int) -> None:
        if time.monotonic() < self.next_report:
            return
        self.next_report = time.monotonic() + REPORT_EVERY_S
        logger.info("%s: %s of %s rows checked", self.file.where, f"{done:,}", f"{self.rows:,}")
