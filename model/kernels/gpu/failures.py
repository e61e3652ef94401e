"""Failures of compilers, recordings and kernels, which a network can run without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "defaultcpuallocator",
)
"""Words of drivers, libraries and PyTorch's CPU allocator, in lower case."""

Step = Literal["compile", "record", "kernels"]


@dataclass(frozen=True)
class Fallback:
    """A simpler form that runs in the place of one that failed.

    Attributes:
        what: the step that failed.
        reason: the failure, in words.
    """

    what: Step
    reason: str


class StepError(Exception):
    """A step failed that a network can do without; the message says why."""


class DeviceLostError(Exception):
    """A CUDA error after which every call of this process fails; the message says which.

    An illegal address, a failed launch or an assertion on the device are such errors. A new process
    may use the device. So this is never a reason for a simpler form, a smaller batch or another
    setting, and no subclass of an error that is.
    """


def raise_if_device_lost(error: BaseException, device: torch.device | None = None) -> None:
    """Find out whether the CUDA device still works after an error, and wait for it if it does.

    Args:
        error: the error.
        device: None for the current one.

    Raises:
        DeviceLostError: if the device does not work.
    """
    if isinstance(error, DeviceLostError):
        raise error
    # Of one call the error may be that of earlier work, whatever was called.
    if torch.cuda.is_initialized() and not (_answers(device) or _answers(device)):
        raise DeviceLostError(summary(error)) from error


def _answers(device: torch.device | None) -> bool:
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


@contextmanager
def failing_as(error_type: type[Exception]) -> Iterator[None]:
    """Raise any failure as one type: compilers and drivers raise exceptions of many.

    Exhausted device memory stays what it is, also where a driver reports it as another error.

    Args:
        error_type: raised with a summary of the failure.

    Raises:
        DeviceLostError: if the CUDA device does not work any more.
    """
    try:
        yield
    except Exception as error:
        raise_if_device_lost(error)
        if isinstance(error, torch.OutOfMemoryError | error_type):
            raise
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(summary(error)) from error
        raise error_type(summary(error)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory's end is the error or a cause of it, in any library's words."""
    return any(
        isinstance(cause, torch.OutOfMemoryError | MemoryError)
        or any(words in str(cause).lower() for words in OUT_OF_MEMORY)
        for cause in _causes(error)
    )


def summary(error: BaseException) -> str:
    """Return the first two lines, which say what failed and why; debugging advice follows."""
    # The end of a capture fails because of what happened in it.
    causes = _causes(error)
    while isinstance(error, torch.AcceleratorError) and (cause := next(causes, None)) is not None:
        error = cause
    return " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it; one that was raised twice can be its own cause."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
