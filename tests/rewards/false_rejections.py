"""How often the scorers reject a right answer: ``python -m tests.rewards.false_rejections --folder
DIR``.

DIR holds benchmark files as AgentFlow publishes them (NAME.json, a list of rows with ``answer`` and
``query`` or ``question``, perhaps ``options``). Every gold answer is scored as a response would
give it, and ``PARAPHRASES`` other ways to say it for ``--rows`` rows drawn over all files. Prints a
table, and each rejection with the scorer's reason. Exit status 1 when a gold answer itself is
rejected.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from agentflow_verl.rewards import compute_score
from agentflow_verl.rewards.choice import read_gold
from agentflow_verl.rewards.options import read_options
from agentflow_verl.rewards.score import as_list

PARAPHRASES = [
    ("the answer is", "Some steps.\nThe answer is {gold}."),
    ("label", "Some steps.\n\nAnswer: {gold}"),
    ("final, in bold", "Some steps.\n\n**Final Answer:** {gold}"),
    ("bold in the tag", "<answer>**{gold}**</answer>"),
    ("sentence in the tag", "<answer>The answer is {gold}.</answer>"),
    ("fence in the tag", "<answer>\n```\n{gold}\n```\n</answer>"),
    ("last sentence", "The results agree.\nTherefore, the result is {gold}."),
    (
        "tag mentioned later",
        "<answer>{gold}</answer>\nThe text between <answer> and </answer> is it.",
    ),
    ("cut tag", "<answer>{gold}</answ"),
    ("upper case", "<answer>{upper}</answer>"),
]
CHOICE_PARAPHRASES = [
    ("letter", "<answer>{letter}</answer>"),
    ("letter in brackets", "<answer>({letter})</answer>"),
    ("letter and text", "<answer>{letter}. {gold}</answer>"),
    ("option letter", "<answer>Option {letter}</answer>"),
    ("letter with a reason", "<answer>{letter} because the other options do not fit</answer>"),
    ("the correct answer is", "Some steps.\nThe correct answer is ({letter})."),
    ("bold letter", "<answer>**{letter}**</answer>"),
    ("text", "<answer>{gold}</answer>"),
    ("label", "Some steps.\n\nAnswer: {letter}) {gold}"),
    ("letter, denying another", "<answer>{letter}, not the others</answer>"),
]
SHOWN = 40


class Row(NamedTuple):
    benchmark: str
    number: int
    golds: list[Any]
    truth: Any
    extra: dict[str, Any]


def read_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*.json")):
        for number, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            options = row.get("options", row.get("choices"))
            question = row.get("question") or row.get("query")
            known = {"options": options, "question": question}
            extra = {key: value for key, value in known.items() if value is not None}
            yield Row(path.stem, number, as_list(row["answer"]), row["answer"], extra)


def rejection(row: Row, text: str) -> str:
    """Why a response is rejected, "" where it is right."""
    result = compute_score(row.benchmark, text, row.truth, row.extra)
    return "" if result["score"] == 1.0 else f"read {result['pred'][:60]!r}: {result['reason']}"


def paraphrases(row: Row) -> Iterator[tuple[str, str]]:
    gold = str(row.golds[0])
    options = read_options(row.extra.get("options"))
    if not options:
        for name, template in PARAPHRASES:
            yield name, template.format(gold=gold, upper=upper(gold))
        return
    [letter] = read_gold(row.truth, options)
    for name, template in CHOICE_PARAPHRASES:
        yield name, template.format(gold=options[letter], letter=letter)


def upper(gold: str) -> str:
    """In capitals where that changes no meaning, as it does in LaTeX."""
    return gold if "\\" in gold else gold.upper()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where NAME.json files are")
    parser.add_argument("--rows", type=int, default=200, help="rows that are paraphrased")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = list(read_rows(options.folder))
    if not rows:
        parser.error(f"no NAME.json in {options.folder}")
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    shown: list[str] = []
    for row in rows:
        for gold in row.golds:
            why = rejection(row, f"Some steps.\n<answer>{gold}</answer>")
            counts[row.benchmark][0] += 1
            counts[row.benchmark][1] += bool(why)
            shown += [f"{row.benchmark}/{row.number} gold {gold!r}: {why}"] if why else []
    for row in random.Random(options.seed).sample(rows, min(options.rows, len(rows))):
        for name, text in paraphrases(row):
            why = rejection(row, text)
            counts[row.benchmark][2] += 1
            counts[row.benchmark][3] += bool(why)
            shown += [f"{row.benchmark}/{row.number} {name}: {why}"] if why else []
    print("| benchmark | gold answers | rejected | paraphrases | rejected |\n|---|---|---|---|---|")
    for name, figures in counts.items():
        print(f"| {name} | {' | '.join(map(str, figures))} |")
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    print(f"| all | {' | '.join(map(str, total))} |")
    print(*shown[:SHOWN], sep="\n")
    return int(total[1] > 0)


if __name__ == "__main__":
    sys.exit(main())
