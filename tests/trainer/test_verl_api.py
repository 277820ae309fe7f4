"""trainer/verl_api.py names all that this package takes from verl's and vLLM's insides, and the
installed packages have each of them where it says.

A failure here means: read the new upstream source, carry over what changed, then correct the line.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import agentflow_verl
from agentflow_verl.trainer import verl_api
from agentflow_verl.trainer.verl_name import Name, Owner

PACKAGE = Path(agentflow_verl.__file__).parent
SITE_PACKAGES = Path(find_spec("verl").origin).parents[1]
USES = [
    pytest.param(owner, name, id=f"{owner.qualname or owner.module}.{name.name}")
    for owner in verl_api.OWNERS
    for name in owner.names
]


def source_of(owner: Owner, name: Name) -> list[str]:
    """Skips the names of an engine that is not installed: those for GPUs exclude each other."""
    file = Path(name.file or owner.file)
    if not (SITE_PACKAGES / file.parts[0]).exists():
        pytest.skip(f"{file.parts[0]} is not installed here")
    return (SITE_PACKAGES / file).read_text().splitlines()


@pytest.mark.parametrize("owner, name", USES)
def test_the_installed_source_defines_the_name_where_the_table_says(owner, name):
    lines = source_of(owner, name)
    defines = rf"def {name.name}\(|\b{name.name}\b\s*(:[^=]*)?(=[^=]|,|$)|\b{name.name}: "
    if name.line == 0:  # not pinned to a version: vLLM's CPU build and its GPU release differ
        assert re.search(defines, "\n".join(lines), re.MULTILINE)
    else:
        line = lines[name.line - 1]
        assert re.search(defines, line), f"{name.file or owner.file}:{name.line} reads {line!r}"


@pytest.mark.parametrize(
    "owner, name", [use for use in USES if use.values[1].name in verl_api.DIGESTS]
)
def test_what_is_repeated_is_unchanged_upstream(owner, name):
    method = getattr(getattr(importlib.import_module(owner.module), owner.qualname), name.name)
    digest = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]
    assert digest == verl_api.DIGESTS[name.name], (
        f"verl changed {owner.qualname}.{name.name}: compare ours"
    )


def test_what_is_repeated_is_pinned():
    repeated = [name for owner in verl_api.OWNERS for name in owner.names if name.use == "repeated"]
    assert len(repeated) >= 4
    assert {name.name for name in repeated} <= set(verl_api.DIGESTS)


def test_each_name_has_a_reason_and_stands_once():
    for owner in verl_api.OWNERS:
        assert all(name.reason for name in owner.names)
        assert len({name.name for name in owner.names}) == len(owner.names)


# ---- nothing is missing ----


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """The files that may import verl."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        if "trainer" in path.parts or re.search(r"\b(from|import) verl\b", text):
            yield path, ast.parse(text)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_here(tree: ast.Module) -> set[str]:
    """Functions, classes, and attributes that the file itself assigns or annotates."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_private_names_that_are_used_are_in_the_table():
    listed = verl_api.names()
    missing = []
    for path, tree in trees():
        ours = defined_here(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                if node.attr not in listed | ours | {"_asdict"}:
                    missing.append(f"{path.name}:{node.lineno}: .{node.attr}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("verl"):
                names = [alias.name for alias in node.names if is_private(alias.name)]
                missing += [f"{path.name}: {name}" for name in names if name not in listed]
    assert not missing, "name these in trainer/verl_api.py"


def our_classes() -> list[type]:
    """Classes of trainer/ that inherit from verl's."""
    for path in (PACKAGE / "trainer").rglob("*.py"):
        if path.stem not in ("__init__", "cleanup", "weights"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            importlib.import_module(".".join(parts))
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("agentflow_verl.trainer"):
            for value in vars(module).values():
                if inspect.isclass(value) and value.__module__ == module_name:
                    found[value] = any(
                        base.__module__.startswith("verl.") for base in value.__mro__
                    )
    return [found_class for found_class, of_verl in found.items() if of_verl]


def test_methods_that_override_verls_are_in_the_table():
    """All but those that verl leaves abstract or keeps in verl/plugin, which are for plugins."""
    listed, missing, seen = verl_api.names(), [], set()
    for ours in our_classes():
        verls = [
            base
            for base in ours.__mro__
            if base.__module__.startswith("verl.")
            and not base.__module__.startswith("verl.plugin.")
        ]
        for part in ours.__mro__:
            if not part.__module__.startswith("agentflow_verl"):
                continue
            for name, ours_here in vars(part).items():
                if isinstance(ours_here, (bool, int)):  # verl's flags are set on our class too
                    continue
                upstream = [vars(base)[name] for base in verls if name in vars(base)]
                abstract = any(getattr(method, "__isabstractmethod__", 0) for method in upstream)
                if not upstream or abstract or name == "_abc_impl":
                    continue
                if name.startswith("__") and name != "__init__":
                    continue
                seen.add(name)
                if name not in listed:
                    missing.append(f"{part.__name__}.{name}")
    assert {"_balance_batch", "_compute_score", "init_model"} <= seen
    assert not missing, "name these in trainer/verl_api.py"


@pytest.mark.parametrize(
    "line, found",
    [("client._acquire_srv = 1", True), ("self._x = 1; self._x", False), ("tq._secret()", True)],
)
def test_a_private_name_that_nobody_listed_is_found(line, found, monkeypatch):
    tree = ast.parse(line)
    monkeypatch.setattr(sys.modules[__name__], "trees", lambda: iter([(Path("made_up.py"), tree)]))
    if found:
        with pytest.raises(AssertionError, match="verl_api"):
            test_private_names_that_are_used_are_in_the_table()
    else:
        test_private_names_that_are_used_are_in_the_table()
