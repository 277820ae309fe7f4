"""The environments of GPU users, as the README makes them: ``pytest -m slow
tests/test_gpu_stack.py``.

Each takes 11 GB and five to ten minutes, and is removed afterwards; ``GPU_STACK=FOLDER`` keeps
them in FOLDER/ENGINE and takes what is there. No GPU is needed: everything up to the first kernel
is asked of the installed releases.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GB = 1 << 30
NEEDED = 20 * GB  # while it is made
EXCEPTIONS = {
    "vllm": (),
    "sglang": ("sglang 0.5.12 has requirement transformers==5.6.0",),  # constraints/sglang.override
}
VERSIONS = {
    "vllm": {"torch": "2.11.0", "transformers": "5.9.0", "vllm": "0.24.0"},
    "sglang": {"torch": "2.11.0", "transformers": "5.9.0", "sglang": "0.5.12"},
}
ON_GPUS = [  # tests that pass in these environments as they are
    "tests/recipes/test_recipes.py",
    "tests/trainer/test_verl_api.py",
    "tests/trainer/preflight/test_attention.py",
]
FOR = {  # what names vLLM is left out beside SGLang
    "vllm": ["tests/trainer/preflight/test_static.py"],
    "sglang": [
        *("--deselect", "tests/recipes/test_recipes.py::test_a_run_that_cannot_start_says_so"),
        *("--deselect", "tests/trainer/test_verl_api.py::test_methods_that_override_verls"),
    ],
}
pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(3000)]


@dataclass(frozen=True)
class Stack:
    engine: str
    folder: Path

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        variables = {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        for name in ("VERL_PLATFORM", "VLLM_TARGET_DEVICE", "RAY_ADDRESS"):
            if name not in environment:
                variables.pop(name, None)
        return subprocess.run(
            [str(self.folder / "bin" / words[0]), *words[1:]],
            env=variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1500,
        )


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def stack(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    kept = os.environ.get("GPU_STACK")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("stack")
    folder = folder / request.param
    if not folder.exists() and shutil.disk_usage(folder.parent).free < NEEDED:
        pytest.skip(f"needs {NEEDED // GB} GiB of disk")
    made = subprocess.run(
        ["bash", "install.sh", str(folder), request.param],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2400,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    yield Stack(request.param, folder)
    if not kept:
        shutil.rmtree(folder)


def test_versions_are_the_pinned_ones_and_fit_each_other(stack: Stack) -> None:
    listed = stack.run(
        "uv", "pip", "list", "--format=json", "--python", f"{stack.folder}/bin/python"
    )
    found = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    for name, version in VERSIONS[stack.engine].items():
        assert found[name] == version
    checked = stack.run("python", "-m", "pip", "check").stdout
    wrong = [line for line in checked.splitlines() if "No broken requirements" not in line]
    unknown = [line for line in wrong if not line.startswith(EXCEPTIONS[stack.engine])]
    assert not unknown if EXCEPTIONS[stack.engine] else not wrong, checked


def test_doctor_says_what_is_there(stack: Stack) -> None:
    overrides = [f"actor_rollout_ref.rollout.name={stack.engine}"]
    found = stack.run("agentflow", "doctor", *overrides)
    assert found.returncode == 0, found.stdout + found.stderr
    version = VERSIONS[stack.engine][stack.engine]
    assert f"{stack.engine} {version}" in found.stdout
    assert "no GPU visible" in found.stdout
    assert "attention" in found.stdout and "sdpa" in found.stdout  # no flash-attn is brought


def test_the_other_engine_is_refused_here(stack: Stack) -> None:
    other = {"vllm": "sglang", "sglang": "vllm"}[stack.engine]
    found = subprocess.run(
        ["bash", "install.sh", str(stack.folder), other], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 1
    assert f"has {stack.engine} already: name a new folder for {other}" in found.stderr


def test_recipes_preflight_and_verls_names_hold_there(stack: Stack, tmp_path: Path) -> None:
    more = ("pytest-timeout", "hypothesis")
    python = f"{stack.folder}/bin/python"
    stack.run("uv", "pip", "install", "--quiet", "--python", python, *more)
    files = ON_GPUS + FOR[stack.engine]
    found = stack.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert found.returncode == 0, found.stdout[-6000:]


def test_the_engine_takes_the_arguments_of_every_recipe(stack: Stack) -> None:
    found = stack.run("python", "-m", "tests.gpu_stack.engine_arguments", stack.engine)
    assert found.returncode == 0, found.stderr[-4000:]
    lines = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert {line["recipe"] for line in lines} >= {"paper/paper", "one_gpu/lora"}
