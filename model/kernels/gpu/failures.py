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


@contextmanager
def failing_as(error_type: type[Exception]) -> Iterator[None]:
    """Raise any failure as one type: compilers and drivers raise exceptions of many.

    Exhausted device memory stays what it is, also where a driver reports it as another error.

    Args:
        error_type: raised with a summary of the failure.
    """
    try:
        yield
    except (torch.OutOfMemoryError, error_type):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(summary(error)) from error
        raise error_type(summary(error)) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether memory's end is the error or a cause of it, in any library's words."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        text = str(error).lower()
        if any(words in text for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def summary(error: BaseException) -> str:
    """Return the first two lines, which say what failed and why; debugging advice follows."""
    # The end of a capture fails because of what happened in it.
    while isinstance(error, torch.AcceleratorError) and error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
