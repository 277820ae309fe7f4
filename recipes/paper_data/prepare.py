"""The paper's training data: ``python recipes/paper_data/prepare.py --benchmarks DIR --out DIR
[--seed 42]``.

Writes ``train.parquet`` (NQ and DeepMath-103K, and files of your own, mixed), ``val.parquet``
(AIME24, or yours), ``report.md``, and ``overlap.jsonl`` with every training question that is like a
benchmark question, beside that question. See README.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from mix import Filters, Sifted, mix, sift
from overlap import NEAR, Overlap, read_benchmark, read_benchmarks
from sources import HUB, Row, read, read_user, texts_of

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.questions import BENCHMARKS
from agentflow_verl.rewards.registry import scorer_name

VALIDATION = "aime24"


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    try:
        benchmarks = benchmarks_of(given)
        validation = validation_rows(given)
        if given.held_out:
            benchmarks["held out"] = [row.question for row in validation]
        filters = Filters(
            given.max_question_chars,
            given.max_answer_chars,
            given.min_difficulty,
            given.max_difficulty,
            given.drop_variants,
        )
        sifted = sift(rows_of(given), filters, Overlap(benchmarks, given.near))
        train = mix(sifted.rows, given.share, given.rows, given.seed)
    except ConfigError as wrong:
        print(f"prepare.py: {wrong}", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    write(train, "train", given.out)
    write(validation, "val", given.out)
    with (given.out / "overlap.jsonl").open("w", encoding="utf-8") as file:
        for row, match in sifted.matches:
            file.write(
                json.dumps(
                    {"source": row.source, "id": row.id, "question": row.question, **asdict(match)},
                    ensure_ascii=False,
                )
                + "\n"
            )
    report = report_of(given, benchmarks, sifted, train, validation)
    (given.out / "report.md").write_text(report, encoding="utf-8")
    print(report)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument(
        "--benchmarks",
        type=Path,
        metavar="FOLDER",
        help="with the benchmark files, NAME.json each; needed for nq and deepmath",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="FILE",
        help="JSON lines of your own as the validation set, instead of AIME24",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--sources", default="nq,deepmath", help="of nq and deepmath; empty for a user's files only"
    )
    parser.add_argument(
        "--nq",
        default=HUB["nq"],
        metavar="PLACE",
        help="file, folder or hub address (default: %(default)s)",
    )
    parser.add_argument(
        "--deepmath",
        default=HUB["deepmath"],
        metavar="PLACE",
        help="the same (default: %(default)s)",
    )
    parser.add_argument(
        "--user",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="JSON lines of your own; may be repeated",
    )
    parser.add_argument(
        "--share",
        type=share,
        action="append",
        default=[],
        metavar="SOURCE=WEIGHT",
        help="natural proportions if not given",
    )
    parser.add_argument(
        "--rows", type=int, help="of train.parquet; as many as there are if not given"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--near",
        type=float,
        default=NEAR,
        help=(
            "share of common word runs from which a question is a benchmark's (default:"
            " %(default)s)"
        ),
    )
    parser.add_argument(
        "--drop-variants",
        action="store_true",
        help="also drop questions that differ from a benchmark's in numbers only",
    )
    parser.add_argument("--min-difficulty", type=float, help="of DeepMath, -1 to 10")
    parser.add_argument("--max-difficulty", type=float)
    parser.add_argument("--max-question-chars", type=int, default=Filters.max_question_chars)
    parser.add_argument("--max-answer-chars", type=int, default=Filters.max_answer_chars)
    given = parser.parse_args(arguments)
    given.share = dict(given.share)
    given.sources = [name for name in given.sources.split(",") if name]
    unknown = set(given.sources) - set(HUB)
    if unknown:
        parser.error(
            f"--sources: {', '.join(sorted(unknown))}; there are {', '.join(HUB)}, and --user FILE"
            " for your own"
        )
    return given


def share(text: str) -> tuple[str, float]:
    source, _, weight = text.partition("=")
    return source, float(weight)


def rows_of(given: argparse.Namespace) -> Iterator[Row]:
    named = (read(name, getattr(given, name)) for name in given.sources)
    return itertools.chain(*named, *map(read_user, given.user))


def benchmarks_of(given: argparse.Namespace) -> dict[str, list[str]]:
    """Questions that must not be trained on, by benchmark."""
    if given.sources and not given.benchmarks:
        raise ConfigError("--benchmarks FOLDER is missing: its questions must not be trained on")
    return read_benchmarks(given.benchmarks) if given.benchmarks else {}


def validation_rows(given: argparse.Namespace) -> list[Row]:
    if given.held_out:
        return list(read_user(given.held_out))
    rows = read_benchmark(given.benchmarks, VALIDATION) if given.benchmarks else []
    if not rows:
        raise ConfigError(
            f"{given.benchmarks}/{VALIDATION}.json: there is no such file, or nothing in it; it is"
            " the validation set, or --held-out FILE"
        )
    return [
        Row(VALIDATION, f"{VALIDATION}-{number}", question, texts_of(answer))
        for number, (question, answer) in enumerate(rows)
    ]


def write(rows: Sequence[Row], split: str, folder: Path) -> None:
    """Rows of verl's dataset. Answers are always a list: a parquet column has one type."""
    pandas.DataFrame([verl_row(row, split, number) for number, row in enumerate(rows)]).to_parquet(
        folder / f"{split}.parquet"
    )


def verl_row(row: Row, split: str, number: int) -> dict[str, Any]:
    return {
        "data_source": row.source,
        "prompt": [{"role": "user", "content": row.question}],
        "ability": row.extra.get("scorer") or scorer_name(row.source),
        "reward_model": {"style": "rule", "ground_truth": list(row.answers)},
        "extra_info": {"split": split, "index": number, "id": row.id, **row.extra},
    }


def report_of(
    given: argparse.Namespace,
    benchmarks: dict[str, list[str]],
    sifted: Sifted,
    train: Sequence[Row],
    validation: Sequence[Row],
) -> str:
    """What was read, dropped and mixed, and what could not be compared."""
    mixed = Counter(row.source for row in train)
    lines = [
        f"# Training data\n\nSeed {given.seed}. {len(train)} training rows, {len(validation)}"
        f" validation rows ({given.held_out or VALIDATION}).\n"
    ]
    reasons = sorted(
        {reason for counts in sifted.counts.values() for reason in counts} - {"read", "left"}
    )
    lines += table(
        ["source", "read", *reasons, "left", "mixed in"],
        [
            [source, *(counts[reason] for reason in ("read", *reasons, "left")), mixed[source]]
            for source, counts in sifted.counts.items()
        ],
    )
    kinds = Counter((match.benchmark, match.kind) for _, match in sifted.matches)
    lines += [
        "\nTraining questions that are like a benchmark question (overlap.jsonl has both texts):\n"
    ]
    names = ("exact", "near", "variant")
    lines += table(
        ["benchmark", "questions", *names],
        [
            [name, len(texts), *(kinds[name, kind] for kind in names)]
            for name, texts in benchmarks.items()
        ],
    )
    lines += [
        "\nexact and near ones are dropped; variants, which differ in numbers only, are"
        f" {'dropped' if given.drop_variants else 'kept'}."
    ]
    missing = [name for name in BENCHMARKS if name not in benchmarks]
    if missing:
        lines += [f"\n**Not compared, for want of their files: {', '.join(missing)}.**"]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    sys.exit(main())
