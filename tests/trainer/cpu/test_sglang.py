"""What trainer/cpu/sglang.py does to SGLang's imports, and that SGLang still reads as it says."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from agentflow_verl.trainer.cpu import sglang

ROOT = Path(__file__).parents[3]
FOUND = importlib.util.find_spec("sglang")
installed = pytest.mark.skipif(
    FOUND is None, reason="SGLang is not installed: bash install.sh FOLDER cpu-sglang"
)

# file below the package, line, what stands there: all that the module's docstring relies on
UPSTREAM = [
    ("srt/utils/common.py", 90, "from torchvision.io import decode_jpeg"),
    ("srt/multimodal/internvl_utils.py", 5, "import torchvision.transforms as T"),
    ("srt/configs/utils.py", 18, "AutoImageProcessor.register("),
    ("srt/mem_cache/memory_pool_host.py", 47, "from sgl_kernel.kvcacheio import ("),
    ("srt/constrained/xgrammar_backend.py", 123, "Unsupported device"),
    ("srt/constrained/xgrammar_backend.py", 245, "Unsupported device"),
    ("srt/entrypoints/engine.py", 614, "target=run_scheduler_process_func,"),
    ("srt/entrypoints/engine.py", 704, "target=run_detokenizer_process_func,"),
    ("srt/weight_sync/utils.py", 36, "import monkey_patch_torch_reductions"),
    ("srt/utils/patch_torch.py", 75, "_REDUCE_TENSOR_ARG_DEVICE_INDEX"),
    ("srt/utils/common.py", 2277, "ALLOWED_MODULE_PREFIXES = {"),
    ("srt/managers/io_struct.py", 1898, "serialized_tensors: str"),
    ("srt/managers/tokenizer_manager.py", 366, "self.rid_to_state"),
    ("srt/managers/tokenizer_manager.py", 516, "async def generate_request("),
    ("srt/managers/tokenizer_manager.py", 1489, "def abort_request(self, rid"),
    ("srt/managers/tokenizer_control_mixin.py", 255, "async def flush_cache("),
    ("srt/managers/scheduler_update_weights_mixin.py", 131, "is_fully_idle()"),
]


@installed
@pytest.mark.parametrize(("file", "line", "text"), UPSTREAM)
def test_the_installed_source_reads_as_the_module_says(file, line, text):
    path = Path(FOUND.submodule_search_locations[0]) / file
    lines = path.read_text(encoding="utf-8").splitlines()
    assert text in lines[line - 1], lines[line - 3 : line + 2]


@installed
def test_the_version_is_the_one_that_install_sh_installs():
    assert f'"sglang=={sglang.VERSION}"' in (ROOT / "install.sh").read_text()
    assert sglang.wrong_version() is None


def in_a_process(program: str) -> str:
    """What a program prints last, in a process where SGLang may be imported."""
    head = "from agentflow_verl.trainer.cpu import sglang as ours; ours.prepare()\n"
    run = subprocess.run(
        [sys.executable, "-c", head + program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()[-1]


@installed
def test_its_server_imports_and_leaves_no_torchvision_behind():
    program = (
        "import os; os.environ['SGLANG_USE_CPU_ENGINE'] = '1'\n"
        "import importlib.util, sglang.srt.entrypoints.http_server as server\n"
        "from transformers.utils import is_torchvision_available\n"
        "print(importlib.util.find_spec('torchvision'), is_torchvision_available(),\n"
        "      server.run_scheduler_process.function)"
    )
    assert in_a_process(program) == "None False run_scheduler_process"


def test_only_what_sglang_asks_for_is_stood_in_for():
    program = (
        "import importlib.util as u, sgl_kernel\n"
        "print([u.find_spec(name) is None for name in ('torchvision', 'sgl_kernel.flash_attn')],\n"
        "      hasattr(sgl_kernel, 'merge_state_v2'))"
    )
    assert in_a_process(program) == "[True, True] False"


def test_a_child_is_prepared_by_unpickling_what_it_runs():
    """Its arguments, which come after it, import SGLang."""
    payload = pickle.dumps(sglang.ChildProcess("os.path", "basename"))
    program = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, ours.StandIns)]\n"
        f"import pickle; pickle.loads({payload!r})\n"
        "print(isinstance(sys.meta_path[0], ours.StandIns))"
    )
    assert in_a_process(program) == "True"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_goes_by_a_file_that_its_reader_removes(dtype, monkeypatch):
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", dict(ForkingPickler._extra_reducers))
    sglang._register_reduction()
    sent = torch.randn(3, 5).to(dtype).t()  # not contiguous
    message = bytes(ForkingPickler.dumps(sent))
    files = list(Path(sglang.SHARED_MEMORY).glob(f"{sglang.WEIGHTS}{os.getpid()}_*"))
    assert len(files) == 1
    assert torch.equal(pickle.loads(message), sent)
    assert not files[0].exists()


def test_no_other_file_is_read_or_removed(tmp_path):
    other = tmp_path / "agentflow_weights_1_x"
    other.write_bytes(bytes(4))
    with pytest.raises(ValueError, match="no file of weights"):
        sglang.read_tensor(str(other), torch.float32, (1,))
    assert other.exists()


def test_nothing_of_it_is_active_on_gpus():
    program = (
        "import os, sys; os.environ.pop('VERL_PLATFORM', None)\n"
        "import agentflow_verl.trainer.plugin\n"
        "print(any(type(finder).__name__ == 'StandIns' for finder in sys.meta_path))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert run.stdout.splitlines()[-1] == "False"
