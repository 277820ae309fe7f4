"""The trainers' modules can be imported in any order."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from agentflow_verl.trainer import trainers

OURS = "agentflow_verl.trainer."


def modules_that_trainers_import() -> set[str]:
    """All of trainer/ that importing trainers.py imports, but for itself."""
    root = Path(trainers.__file__).parents[2]
    found: set[str] = set()
    waiting = [trainers.__name__]
    while waiting:
        path = root / Path(*waiting.pop().split(".")).with_suffix(".py")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
                for name in (node.module, *(f"{node.module}.{part.name}" for part in node.names)):
                    is_module = (root / Path(*name.split(".")).with_suffix(".py")).is_file()
                    if is_module and name not in found:
                        found.add(name)
                        waiting.append(name)
    return found


def test_what_the_trainers_import_does_not_import_verls_trainers():
    """Importing verl's trainers imports ours (plugin.py): a module of ours that did so first would
    be half initialised when trainers.py asks for it."""
    names = modules_that_trainers_import()
    assert f"{OURS}batching.filtering" in names and f"{OURS}resilience.resumable_trainer" in names
    code = "\n".join(
        [
            "import importlib, sys",
            *(f"importlib.import_module({name!r})" for name in sorted(names)),
            "assert 'verl.trainer.ppo.v1' not in sys.modules",
            "import verl.trainer.ppo.v1 as v1",
            "assert v1.get_trainer_cls('agentflow_sync').__name__ == 'FlowTrainerSync'",
        ]
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "VERL_PLATFORM": "cpu"},
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
