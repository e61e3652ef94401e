from __future__ import annotations

import pytest
import torch

from model.kernels.gpu.failures import StepError, failing_as, is_out_of_memory


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


def test_the_end_of_memory_is_known_behind_the_error_that_it_caused() -> None:
    def capture() -> None:
        try:
            raise torch.OutOfMemoryError("no room")
        finally:
            raise torch.AcceleratorError("operation failed due to a previous error")

    with pytest.raises(torch.OutOfMemoryError), failing_as(StepError):
        capture()
