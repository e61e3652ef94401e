"""Kernels are used where a first one was compiled and launched; else the reason is told."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch

from model.kernels.gpu import support
from model.kernels.gpu.failures import DeviceLostError
from model.kernels.gpu.support import launch_unsupported_reason
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _not_asked_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "_launched", set())


def test_a_first_kernel_runs(kernel_device: str) -> None:
    importlib.import_module("model.kernels.gpu.probe").launch(torch.device(kernel_device))
    assert launch_unsupported_reason(torch.device(kernel_device)) is None


@pytest.fixture
def replace_launch(
    monkeypatch: pytest.MonkeyPatch, kernel_device: str
) -> Callable[[Callable[[], None]], None]:
    module = importlib.import_module("model.kernels.gpu.probe")
    return lambda launch: monkeypatch.setattr(module, "launch", lambda _: launch())


@pytest.fixture
def broken(replace_launch: Callable[[Callable[[], None]], None]) -> None:
    def fail() -> None:
        raise OSError("failed to map segment from shared object\nand much advice\nmore")

    replace_launch(fail)


@pytest.mark.usefixtures("broken")
def test_a_failure_is_told_in_its_first_lines() -> None:
    assert launch_unsupported_reason(CPU) == (
        "a first kernel failed: failed to map segment from shared object and much advice"
    )


def test_without_triton_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "TRITON_INSTALLED", False)
    assert launch_unsupported_reason(CPU) == "Triton is not installed"


def test_only_a_launch_is_remembered(
    replace_launch: Callable[[Callable[[], None]], None],
) -> None:
    launches = iter([OSError("a full disk"), None])

    def launch() -> None:
        if (error := next(launches)) is not None:
            raise error

    replace_launch(launch)
    assert launch_unsupported_reason(CPU) == "a first kernel failed: a full disk"
    assert [launch_unsupported_reason(CPU) for _ in range(2)] == [None, None]


def test_full_memory_says_nothing_about_kernels(
    replace_launch: Callable[[Callable[[], None]], None],
) -> None:
    def launch() -> None:
        raise torch.AcceleratorError("CUDA error: out of memory")

    replace_launch(launch)
    with pytest.raises(torch.OutOfMemoryError):
        launch_unsupported_reason(CPU)


def test_a_lost_device_is_no_reason_against_kernels(
    device: FakeDevice, replace_launch: Callable[[Callable[[], None]], None]
) -> None:
    replace_launch(device.lose)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        launch_unsupported_reason(CPU)


def test_a_missing_tool_is_named_before_a_kernel_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(support, "TRITON_INSTALLED", True)
    monkeypatch.setattr(support, "missing_tool", lambda: "there is no C compiler")
    assert launch_unsupported_reason(CPU) == "there is no C compiler"
