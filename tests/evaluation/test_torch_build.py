"""SGLang serves on the CPU where torch was built for no GPU, whatever its version is called."""

from __future__ import annotations

import sys

import pytest

from agentflow_verl.evaluation.session import torch_is_for_cpus


@pytest.mark.parametrize(
    ("version", "cuda", "for_cpus"),
    [
        ("2.11.0+cpu", None, True),
        ("2.11.0", None, True),  # as PyPI has it for ARM
        ("2.11.0", "13.0", False),
    ],
)
def test_its_build_decides(tmp_path, monkeypatch, version, cuda, for_cpus):
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "version.py").write_text(f"__version__ = {version!r}\ncuda = {cuda!r}\nhip = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_is_for_cpus() is for_cpus


def test_without_torch_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not torch_is_for_cpus()
