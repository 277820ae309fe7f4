"""The rules of the architecture: who may import whom, how long a file may be, who may print."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agentflow_verl", "tool_servers")
TRAINER_LIBRARIES = {"verl", "ray", "vllm", "sglang", "transfer_queue", "tensordict"}
# From the ground up: a file imports from its own floor and from those below, never from above.
FLOORS = (
    "agentflow_verl/core/",
    "agentflow_verl/config/",
    "agentflow_verl/flow_grpo/",
    "agentflow_verl/tools/",
    "agentflow_verl/engines/",
    "agentflow_verl/trajectories/",
    "agentflow_verl/flow/",
    "agentflow_verl/rewards/",
    "agentflow_verl/evaluation/",
    "agentflow_verl/view/",
    "agentflow_verl/trainer/",
    "agentflow_verl/cli/",
    "tool_servers/common/",
    "tool_servers/base_generator/",
    "tool_servers/google_search/",
    "tool_servers/python_coder/",
    "tool_servers/stdio/",
    "tool_servers/web_search/",
    "tool_servers/wikipedia_search/",
)
PACKAGE_FACES = ("agentflow_verl/__init__.py", "tool_servers/__init__.py")
TRAINER = "agentflow_verl/trainer/"
MAY_USE_TORCH = ("agentflow_verl/flow_grpo/", TRAINER, "agentflow_verl/cli/")
MAY_PRINT = (
    "agentflow_verl/cli/",
    "agentflow_verl/trainer/launch.py",
    "agentflow_verl/trainer/progress.py",
)
STARTS_PROCESSES = {  # docs/decisions/child_processes.md says what each is tied to its parent by
    "subprocess.Popen": {"agentflow_verl/core/child_process.py"},
    "subprocess.run": {"tool_servers/python_coder/sandbox/bubblewrap.py"},
    "asyncio.create_subprocess_exec": {
        "tool_servers/common/workers.py",
        "tool_servers/python_coder/sandbox/fork_server.py",
    },
    "anyio.open_process": {"tool_servers/stdio/transport.py"},
    "ProcessPool": {"tool_servers/web_search/page.py"},
    "os.fork": {
        "tool_servers/python_coder/inside/starter.py",
        "tool_servers/python_coder/sandbox/probes.py",
    },
    "os.execvp": {"tool_servers/stdio/child.py"},
}
OTHER_STARTERS = re.compile(
    r"(os\.(system|popen|posix_spawnp?|forkpty|exec\w+|spawn\w+)"
    r"|subprocess\.\w+|anyio\.\w+_process|(asyncio\.)?create_subprocess_\w+|.*Process"
    r"|ProcessPoolExecutor|.*\.Pool)"
)
NO_STARTERS = {"subprocess.TimeoutExpired", "psutil.Process", "ChildProcess", "ServerProcess"}
MOST_LINES = 400


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"), name)


def is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def imports_of(name: str) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it; ``from a import b`` gives a and a.b."""
    package = name.removesuffix(".py").removesuffix("/__init__").split("/")
    package = package if name.endswith("__init__.py") else package[:-1]
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            found.update(
                argument.value for argument in node.args if isinstance(argument, ast.Constant)
            )
    return frozenset(found)


def files_behind(module: str) -> set[str]:
    """The files of ours that importing ``module`` runs, its packages included."""
    parts = module.split(".")
    paths = set()
    for length in range(1, len(parts) + 1):
        base = "/".join(parts[:length])
        paths |= {path for path in (f"{base}.py", f"{base}/__init__.py") if path in FILES}
    return paths


@cache
def reach_of(name: str) -> frozenset[str]:
    """Every file of ours that importing ``name`` may run, itself included."""
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    reached, waiting = set(), files_behind(module)
    while waiting:
        reached |= waiting
        waiting = {
            path
            for file in waiting
            for imported in imports_of(file)
            for path in files_behind(imported)
        } - reached
    return frozenset(reached)


def libraries_of(name: str) -> set[str]:
    return {module.split(".")[0] for module in imports_of(name)}


def floor_of(name: str) -> int | None:
    """The floor that a file stands on; None for a file on no floor."""
    for number, folder in enumerate(FLOORS):
        if name.startswith(folder):
            return number
    return None


OURS = [name for name in FILES if name.startswith("agentflow_verl/")]
OUTSIDE_THE_TRAINER = [name for name in FILES if not name.startswith(TRAINER)]


def test_there_are_files_to_check():
    assert {"agentflow_verl/flow/loop.py", "agentflow_verl/trainer/trainers.py"} <= set(FILES)
    assert "agentflow_verl/trajectories/records.py" in reach_of("agentflow_verl/flow/loop.py")
    assert "verl" in libraries_of("agentflow_verl/trainer/trainers.py")


@pytest.mark.parametrize("name", FILES)
def test_every_file_stands_on_a_floor(name):
    assert name in PACKAGE_FACES or floor_of(name) is not None


@pytest.mark.parametrize("name", [name for name in FILES if name not in PACKAGE_FACES])
def test_imports_point_downward(name):
    upward = []
    for imported in imports_of(name):
        for path in files_behind(imported) - set(PACKAGE_FACES):
            if floor_of(path) > floor_of(name):
                upward.append(path)
    assert not upward


@pytest.mark.parametrize("name", PACKAGE_FACES)
def test_a_package_imports_nothing_of_its_own(name):
    assert not {path for module in imports_of(name) for path in files_behind(module)} - {name}


@pytest.mark.parametrize("name", OUTSIDE_THE_TRAINER)
def test_only_the_trainer_imports_verl_and_its_engines(name):
    assert not libraries_of(name) & TRAINER_LIBRARIES


@pytest.mark.parametrize("name", [name for name in OURS if not name.startswith(MAY_USE_TORCH)])
def test_only_the_algorithm_needs_torch(name):
    assert not {reached for reached in reach_of(name) if "torch" in libraries_of(reached)}


@pytest.mark.parametrize(
    "module",
    [
        "agentflow_verl.flow.loop",
        "agentflow_verl.tools.toolbox",
        "agentflow_verl.engines.openai_endpoint",
    ],
)
def test_the_agent_runs_in_a_process_without_a_trainer(module):
    program = (
        f"import {module}, sys; print(sorted(set(sys.modules) & {TRAINER_LIBRARIES | {'torch'}}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FILES)
def test_the_agent_and_the_tool_servers_meet_on_the_wire_only(name):
    other = PACKAGES[1] if name.startswith(PACKAGES[0]) else PACKAGES[0]
    assert other not in libraries_of(name)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FILES
        if name.startswith("agentflow_verl/") and not name.startswith(MAY_PRINT)
    ],
)
def test_messages_go_to_a_log(name):
    calls = (node.func for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call))
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


@pytest.mark.parametrize("function", STARTS_PROCESSES)
def test_a_file_that_may_start_processes_does(function):
    for name in STARTS_PROCESSES[function]:
        assert f"{function}(" in ast.unparse(tree_of(name))


@pytest.mark.parametrize("name", FILES)
def test_processes_are_started_where_it_is_said_that_they_end(name):
    calls = (node.func for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call))
    for function in map(ast.unparse, calls):
        if function in STARTS_PROCESSES:
            assert name in STARTS_PROCESSES[function]
        elif function not in NO_STARTERS:
            assert not OTHER_STARTERS.fullmatch(function), function


@pytest.mark.parametrize("name", FILES)
def test_files_stay_short(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", FILES)
def test_files_read_the_same_on_every_python(name):
    """Annotations are never evaluated, so that 3.10 takes what 3.12 takes."""
    tree = tree_of(name)
    annotated = [
        node
        for node in ast.walk(tree)
        if getattr(node, "annotation", None) or getattr(node, "returns", None)
    ]
    assert "__future__.annotations" in imports_of(name) or not annotated
    ast.parse(FILES[name].read_text(encoding="utf-8"), name, feature_version=(3, 10))


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("__main__.py")])
def test_every_module_says_what_it_is(name):
    tree = tree_of(name)
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("__init__.py")])
def test_a_package_lists_all_of_its_modules_or_none(name):
    """In its docstring, as ``module.py`` or ``folder/`` at the beginning of an indented line."""
    docstring = ast.get_docstring(tree_of(name)) or ""
    listed = set(re.findall(r"^ {4}(\w+)(?:\.py|/)", docstring, re.MULTILINE))
    folder = FILES[name].parent
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    there = (modules | packages) - {"__init__", "__main__"}
    assert not listed or listed == there


def test_the_rules_can_fail(tmp_path, monkeypatch):
    """A file that breaks them is found: a relative import, a lazy one, one by name, one through
    another file.
    """
    folder = tmp_path / "agentflow_verl" / "flow"
    folder.mkdir(parents=True)
    sources = {
        "agentflow_verl/__init__.py": "",
        "agentflow_verl/flow/__init__.py": "",
        "agentflow_verl/flow/a.py": "def f():\n    from ..trainer import trainers",
        "agentflow_verl/flow/b.py": "from .a import f",
        "agentflow_verl/flow/c.py": "import importlib\nimportlib.import_module('verl.utils')",
        "agentflow_verl/trainer/trainers.py": "import verl",
    }
    for name, text in sources.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setitem(globals(), "FILES", {name: tmp_path / name for name in sources})
    caches = (tree_of, imports_of, reach_of)
    for cached in caches:
        cached.cache_clear()
    try:
        assert "agentflow_verl/trainer/trainers.py" in reach_of("agentflow_verl/flow/b.py")
        assert "verl" in libraries_of("agentflow_verl/flow/c.py")
    finally:
        for cached in caches:
            cached.cache_clear()
