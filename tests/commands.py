"""Commands of the documentation: found, taken apart, and read by the program that each of them
belongs to.

    blocks(page, "bash")        fenced blocks of a language
    commands(page)              every command, one list of words each
    check(words)                raises for an unknown flag, name, file or override

A placeholder (``…``, ``...``, ``<your model>``) stands for one word. Nothing is started.
"""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from hydra import compose, initialize_config_dir, initialize_config_module
from omegaconf import DictConfig

from agentflow_verl.cli import main as cli
from agentflow_verl.config import schema
from agentflow_verl.trainer.rollout.worker_settings import resolve_node

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tool_servers/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "recipes").glob("**/README.md")),
]
OURS = ("agentflow", "python", "bash", "pip", "pytest")
# What only a person, a cluster or another test runs, and where that is.
ELSEWHERE = {
    "python -m verl.model_merger": "tests/e2e/test_train.py merges a checkpoint with it",
    "python -": "a few lines that the page itself has",
    "python roman.py": "tests/test_docs.py runs the block that it names",
    "python -m pdoc": "tests/test_checks.py",
    "ruff check": "tests/test_checks.py",
    "mypy": "tests/test_checks.py",
    "pre-commit install": "a program of its own; its hooks are those of tests/test_checks.py",
    "ray": "Ray's command line",
    "git clone": "git's command line",
    "cd": "the shell's own",
    ".ci/run": "every run of the tests",
    "source .venv/bin/activate": "install.sh makes it",
    "vllm serve": "vLLM's command line; tests/evaluation/test_model_server.py starts one",
    "npm": "another's tool server, docs/tools.md",
}


class Parsed(Exception):
    """Raised instead of running what was parsed."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S
    )


def block(name: str, *holding: str) -> str:
    """The one block of Python of the page at ``name`` that holds all this."""
    [found] = [
        text for text in blocks(ROOT / name, "python") if all(part in text for part in holding)
    ]
    return found


def commands(page: Path) -> Iterator[list[str]]:
    """Fenced ``bash``, the lines after ``$`` of ``console``, and indented lines that begin with a
    program of ours.
    """
    text = "\n".join(blocks(page, "bash"))
    text += "\n".join(
        line[2:]
        for block in blocks(page, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    )
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text += "\n" + "\n".join(
        line.strip() for line in prose.splitlines() if re.match(rf"    (?:{'|'.join(OURS)}) ", line)
    )
    text = (
        re.sub(r"<[^<>\n]+>", "PLACEHOLDER", text)
        .replace("…", "PLACEHOLDER")
        .replace(" ... ", " PLACEHOLDER ")
    )
    text = re.sub(r"\s*\\\n\s*", " ", text)
    for line in text.splitlines():
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"(export$|[A-Z_][A-Z_0-9]*=)", words[0]):
                words = words[1:]
            words = words[: words.index("&")] if "&" in words else words
            if words:
                yield words


def check(words: list[str]) -> None:
    line = " ".join(words)
    if any(line == known or line.startswith(f"{known} ") for known in ELSEWHERE):
        return
    program, *rest = words
    if "=" in program:  # overrides shown alone
        settings(composed(words))
    elif program == "agentflow":
        agentflow(rest)
    elif program == "pip":
        pip(rest)
    elif program in ("bash", "source"):
        script(rest)
    elif program == "pytest":
        pytest_arguments(rest)
    elif program == "python" and rest[0] == "-m":
        module(rest[1], rest[2:])
    elif program == "python":
        with arguments_are(rest):
            reads(lambda: run_file(ROOT / rest[0]))
    else:
        raise LookupError(f"{program}: unknown to the tests; give it a line in tests/commands.py")


def agentflow(words: list[str]) -> None:
    given = reads(lambda: cli.main(words))
    if given.command in ("doctor", "plan"):
        settings(composed(given.overrides, given.config_name, given.config_dir))


def module(name: str, words: list[str]) -> None:
    if (
        name == "verl.trainer.main_ppo" and "--config-dir" in words
    ):  # a recipe's own; tests/recipes composes them
        folder, config = (
            words[words.index(option) + 1] for option in ("--config-dir", "--config-name")
        )
        assert (ROOT / folder / f"{config}.yaml").is_file(), words
    elif name == "verl.trainer.main_ppo":
        option, config_name, *overrides = words
        assert option == "--config-name", words
        settings(composed([word for word in overrides if word != "PLACEHOLDER"], config_name))
    elif name.startswith("tool_servers."):
        with patch.dict(
            "os.environ", AGENTFLOW_TOOL_TOKEN="a token for the tests".replace(" ", "-")
        ):
            reads(lambda: importlib.import_module(f"{name}.server").main(words))
    elif name == "pytest":
        pytest_arguments(words)
    else:
        with arguments_are([name, *words]):
            reads(lambda: runpy.run_module(name, run_name="__main__"))


def script(words: list[str]) -> None:
    """Flags of a shell script are the cases that it names; what else it takes are overrides, or the
    installer's two words.
    """
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    flags = [word for word in words[1:] if word.startswith("-")]
    unknown = [flag for flag in flags if f"{flag})" not in text]
    assert not unknown, f"{words[0]} has no {unknown[0]}"
    settings(composed([word for word in words[1:] if "=" in word]))


def pip(words: list[str]) -> None:
    """Extras of ours exist."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(.*?)\]", " ".join(words)):
        for name in extra.split(","):
            assert f'"{name}": ' in setup, f"setup.py has no extra {name}"


def pytest_arguments(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("paths", nargs="*")
    for flag in ("-m", "-k", "-n", "-o"):
        parser.add_argument(flag)
    parser.add_argument("-q", action="store_true")
    for path in parser.parse_args(words).paths:
        assert (ROOT / path.split("::")[0]).exists(), path


def composed(
    overrides: list[str], config_name: str = "agentflow", config_dir: Path | None = None
) -> DictConfig:
    given = [re.sub(r"\$\w+|\"\$\w+\"", "x", override) for override in overrides]
    if config_dir is not None:
        given.append("hydra.searchpath=[pkg://verl.trainer.config]")
        with initialize_config_dir(str(ROOT / config_dir), version_base=None):
            return compose(config_name, given)
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(config_name, given)


def settings(config: DictConfig) -> schema.AgentflowConfig:
    return schema.load(resolve_node(config.agentflow))


def run_file(path: Path) -> None:
    with patch.object(sys, "path", [str(path.parent), str(ROOT), *sys.path]):
        runpy.run_path(str(path), run_name="__main__")


@contextmanager
def arguments_are(words: list[str]) -> Iterator[None]:
    with patch.object(sys, "argv", words):
        yield


def reads(run: Callable[[], object]) -> argparse.Namespace:
    """What ``run`` parses first, all of it. Raises ValueError with the parser's complaint."""

    def stop(
        parser: argparse.ArgumentParser,
        args: list[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> argparse.Namespace:
        given, unknown = parser.parse_known_args(args, namespace)
        if unknown:
            parser.error(f"unknown: {' '.join(unknown)}")
        raise Parsed(given)

    def complain(parser: argparse.ArgumentParser, message: str) -> None:
        raise ValueError(f"{parser.prog}: {message}")

    with (
        patch.object(argparse.ArgumentParser, "parse_args", stop),
        patch.object(argparse.ArgumentParser, "error", complain),
    ):
        try:
            run()
        except Parsed as parsed:
            return parsed.given
    raise LookupError("it parsed no arguments")
