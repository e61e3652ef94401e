from __future__ import annotations

import pytest
import torch

from model.kernels.gpu.failures import (
    DeviceLostError,
    StepError,
    failing_as,
    is_out_of_memory,
    raise_if_device_lost,
    summary,
)
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no room"),
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["PyTorch", "Python", "driver", "cuBLAS", "CPU"],
)
def test_the_end_of_memory_is_known_in_every_librarys_words(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("an illegal memory access was encountered"))


def test_an_error_that_is_raised_twice_has_an_end() -> None:
    error, failure = torch.AcceleratorError("no kernel image"), StepError("no kernel")
    error.__context__, failure.__cause__ = failure, error
    assert not is_out_of_memory(error)
    assert summary(error) == "no kernel"


def test_the_end_of_memory_is_known_behind_the_error_that_it_caused() -> None:
    def capture() -> None:
        try:
            raise torch.OutOfMemoryError("no room")
        finally:
            raise torch.AcceleratorError("operation failed due to a previous error")

    with pytest.raises(torch.OutOfMemoryError), failing_as(StepError):
        capture()


def test_a_failed_capture_is_told_by_its_cause() -> None:
    def capture() -> None:
        try:
            raise RuntimeError("Cannot copy between CPU and CUDA tensors")
        finally:
            raise torch.AcceleratorError("operation failed due to a previous error")

    with pytest.raises(StepError, match="Cannot copy"), failing_as(StepError):
        capture()


@pytest.mark.parametrize("error_type", [StepError, ValueError])
def test_a_lost_device_is_no_failure_of_a_step(
    device: FakeDevice, error_type: type[Exception]
) -> None:
    with pytest.raises(DeviceLostError, match="illegal memory access"), failing_as(error_type):
        device.lose()


def test_a_lost_device_is_known_in_the_words_of_any_library(device: FakeDevice) -> None:
    def launch() -> None:
        try:
            device.lose()
        except RuntimeError:
            raise RuntimeError("Triton Error [CUDA]: unspecified launch failure") from None

    with pytest.raises(DeviceLostError, match="Triton"), failing_as(StepError):
        launch()


def test_a_lost_device_is_not_out_of_memory(device: FakeDevice) -> None:
    with pytest.raises(DeviceLostError), failing_as(StepError):
        device.lose("CUDA error: out of memory, says a library")


def test_an_error_after_which_the_device_works_is_what_it_was(device: FakeDevice) -> None:
    with pytest.raises(StepError, match="invalid configuration"), failing_as(StepError):
        raise torch.AcceleratorError("CUDA error: invalid configuration argument")
    assert device.waits == 1


def test_an_error_of_earlier_work_is_no_lost_device(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [torch.AcceleratorError("CUDA error: invalid argument")]

    def synchronize(_: object) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    raise_if_device_lost(RuntimeError("no"))
    assert errors == []


def test_without_cuda_no_device_is_lost() -> None:
    raise_if_device_lost(torch.AcceleratorError("an accelerator"))
