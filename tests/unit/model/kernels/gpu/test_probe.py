"""Kernels are used where a first one was compiled and launched; else the reason is told."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.kernels.gpu import support
from model.kernels.gpu.support import launch_unsupported_reason

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _not_asked_yet() -> Iterator[None]:
    launch_unsupported_reason.cache_clear()
    yield
    launch_unsupported_reason.cache_clear()


def test_a_first_kernel_runs(kernel_device: str) -> None:
    importlib.import_module("model.kernels.gpu.probe").launch(torch.device(kernel_device))
    assert launch_unsupported_reason(torch.device(kernel_device)) is None


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, kernel_device: str) -> None:
    def fail(_: object) -> None:
        raise OSError("failed to map segment from shared object\nand much advice\nmore")

    monkeypatch.setattr(importlib.import_module("model.kernels.gpu.probe"), "launch", fail)


@pytest.mark.usefixtures("broken")
def test_a_failure_is_told_in_its_first_lines() -> None:
    assert launch_unsupported_reason(CPU) == (
        "a first kernel failed: failed to map segment from shared object and much advice"
    )


@pytest.mark.usefixtures("broken")
def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/gcc")
    reason = "there are no C headers of Python (Python.h), which Triton needs"
    assert launch_unsupported_reason(CPU) == reason
    launch_unsupported_reason.cache_clear()
    monkeypatch.setattr("shutil.which", lambda _: None)
    reason = "there is no C compiler, which Triton needs (gcc or clang)"
    assert launch_unsupported_reason(CPU) == reason


def test_without_triton_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "TRITON_INSTALLED", False)
    assert launch_unsupported_reason(CPU) == "Triton is not installed"
