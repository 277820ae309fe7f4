"""Figures of how the code reads: its structure, its style, its strict types, its install sizes.

    python scripts/figures.py                      the working tree
    python scripts/figures.py --compare REVISION   beside an earlier revision
    python scripts/figures.py --environment DIR    also the size of an environment, in MB

A room is a top-level folder or file of ``agentflow_verl``; an arrow is a room that imports another.
An upward arrow is one that no order of the rooms can make point downward: the fewest arrows that
would have to go so that the rest have no circle.
"""

from __future__ import annotations

import argparse
import ast
import io
import itertools
import re
import subprocess
import tarfile
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "agentflow_verl"
PRODUCT = (PACKAGE, "tool_servers")
RUN_BY_USERS = ("recipes", "scripts")  # typed as strictly, and counted there only
LONGEST_LINE = 100
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Style:
    """Counts over the product's Python files."""

    files: int = 0
    lines: int = 0
    long_lines: int = 0
    comprehensions: int = 0
    nested_comprehensions: int = 0
    ternaries: int = 0
    comment_lines: int = 0
    longest_file: int = 0

    def per_thousand(self, count: int) -> str:
        return f"{1000 * count / max(1, self.lines):.1f}"


@dataclass
class Structure:
    """Rooms and the arrows between them."""

    rooms: set[str] = field(default_factory=set)
    arrows: set[tuple[str, str]] = field(default_factory=set)


def python_files(root: Path, folders: Iterable[str] = PRODUCT) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((root / folder).rglob("*.py"))


def measure_style(root: Path) -> Style:
    style = Style()
    for path in python_files(root):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        style.files += 1
        style.lines += len(lines)
        style.long_lines += sum(len(line) > LONGEST_LINE for line in lines)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        style.comment_lines += sum(token.type == tokenize.COMMENT for token in tokens)
        style.longest_file = max(style.longest_file, len(lines))
        for node in ast.walk(ast.parse(text)):
            style.ternaries += isinstance(node, ast.IfExp)
            if isinstance(node, COMPREHENSIONS):
                style.comprehensions += 1
                style.nested_comprehensions += len(node.generators) > 1
    return style


def module_names(root: Path) -> set[str]:
    names = set()
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names.add(".".join(parts).removesuffix(".__init__"))
    return names


def imported_modules(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                if longer in known:
                    yield longer
                elif node.module in known:
                    yield node.module


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def measure_structure(root: Path) -> Structure:
    known = module_names(root)
    structure = Structure()
    for path in (root / PACKAGE).rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        here = room_of(module)
        structure.rooms.add(here)
        for imported in imported_modules(ast.parse(path.read_text(encoding="utf-8")), known):
            there = room_of(imported)
            if there not in (here, PACKAGE):
                structure.arrows.add((here, there))
    structure.rooms.discard(PACKAGE)
    return structure


def circles(structure: Structure) -> list[set[str]]:
    """Sets of rooms that import each other in a circle (strongly connected components)."""
    reach: dict[str, set[str]] = defaultdict(set)
    for start in structure.rooms:
        waiting = [start]
        while waiting:
            here = waiting.pop()
            for source, target in structure.arrows:
                if source == here and target not in reach[start]:
                    reach[start].add(target)
                    waiting.append(target)
    found: list[set[str]] = []
    for room in sorted(structure.rooms):
        circle = {other for other in reach[room] if room in reach[other]}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def upward_arrows(structure: Structure) -> int:
    """The fewest arrows that point upward, over all orders of each circle's rooms."""
    total = 0
    for circle in circles(structure):
        inside = [arrow for arrow in structure.arrows if set(arrow) <= circle]
        fewest = len(inside)
        for order in itertools.permutations(sorted(circle)):
            rank = {room: number for number, room in enumerate(order)}
            fewest = min(fewest, sum(rank[source] < rank[target] for source, target in inside))
        total += fewest
    return total


def strictly_typed(root: Path) -> tuple[int, int]:
    """Files that the tree's own mypy configuration checks strictly, and all files."""
    everything = list(python_files(root, (*PRODUCT, *RUN_BY_USERS)))
    covered: list[str] = []
    for name in ("pyproject.toml", "mypy.ini"):
        if (root / name).is_file():
            covered += checked_folders((root / name).read_text(encoding="utf-8"))
    inside = [
        path for path in everything if path.is_relative_to(root) and _within(path, covered, root)
    ]
    return len(inside), len(everything)


def checked_folders(configuration: str) -> list[str]:
    """The folders of mypy's ``files``, from either form of its configuration."""
    found = re.search(r"^files = (\[[^\]]*\]|.*)$", configuration, re.MULTILINE)
    if found is None:
        return []
    return re.findall(r"[\w/]+", found.group(1))


def _within(path: Path, folders: list[str], root: Path) -> bool:
    return any(path.is_relative_to(root / folder) for folder in folders)


def folder_megabytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def figures(root: Path) -> dict[str, str]:
    style, structure = measure_style(root), measure_structure(root)
    typed, everything = strictly_typed(root)
    return {
        "rooms": str(len(structure.rooms)),
        "arrows": str(len(structure.arrows)),
        "upward arrows": str(upward_arrows(structure)),
        "circles": str(len(circles(structure))),
        "Python files of the product": str(style.files),
        "lines": str(style.lines),
        "longest file, lines": str(style.longest_file),
        "lines over 100 characters per 1,000": style.per_thousand(style.long_lines),
        "comprehensions per 1,000 lines": style.per_thousand(style.comprehensions),
        "of them with two `for`": style.per_thousand(style.nested_comprehensions),
        "ternaries per 1,000 lines": style.per_thousand(style.ternaries),
        "lines with a comment, %": f"{100 * style.comment_lines / max(1, style.lines):.1f}",
        "files under strict types, with recipes and scripts": f"{typed} of {everything}",
    }


def at_revision(revision: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "tree.tar"
        command = ["git", "archive", "--output", str(archive), revision]
        subprocess.run(command, cwd=ROOT, check=True)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        return figures(Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", metavar="REVISION", help="an earlier revision, shown first")
    parser.add_argument("--environment", type=Path, action="append", default=[], metavar="DIR")
    given = parser.parse_args()
    columns = [("now", figures(ROOT))]
    if given.compare:
        columns.insert(0, (given.compare, at_revision(given.compare)))
    print("| | " + " | ".join(name for name, _ in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for row in columns[-1][1]:
        print(f"| {row} | " + " | ".join(column[row] for _, column in columns) + " |")
    for folder in given.environment:
        print(f"| {folder.name}, MB | {folder_megabytes(folder):.0f} |")


if __name__ == "__main__":
    main()
