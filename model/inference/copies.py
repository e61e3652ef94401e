"""Copies between the host and a device with memory of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Arrival(Protocol):
    """The completion of a copy to the device."""

    @property
    def number(self) -> int:
        """Of the copy; those with lower numbers are complete before it."""

    def wait(self) -> None:
        """Make later work of the computing stream wait for it; does not block."""


class Mark(Protocol):
    """A place in the computing stream's work, such as a CUDA event."""

    def query(self) -> bool:
        """Return whether the work before it is done."""

    def synchronize(self) -> None:
        """Wait until the work before it is done; other threads run meanwhile."""


class Copier(Protocol):
    """Copies to and from a device with memory of its own."""

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device; does not wait for computation."""

    def pin(self, array: NDArray[Any]) -> Tensor:
        """Return a copy in host memory from which the computing stream can copy later.

        Args:
            array: uint8 or int64.
        """

    def fetch(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Start copying results to the host behind the computation; does not wait."""

    def mark(self) -> Mark:
        """Mark the end of what the computing stream has to do so far."""


@dataclass(frozen=True)
class CudaArrival:
    """The end of a copy to a GPU, for the stream that computes, whichever that is."""

    number: int
    device: torch.device
    copied: torch.cuda.Event

    def wait(self) -> None:
        """Make the computing thread's stream wait."""
        torch.cuda.current_stream(self.device).wait_event(self.copied)


class CudaCopier:
    """Copies to the device on a stream of its own, and back on the computing one.

    PyTorch's allocator of pinned memory reuses a buffer only after the copies that use it are done,
    so no buffers are managed here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._numbers = count()
        self._lock = threading.Lock()

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device."""
        # The stream's device is the current one inside, in whatever thread.
        with torch.cuda.stream(self._stream):
            pinned, copied = self.pin(image), torch.cuda.Event()
            with self._lock:  # numbers are in the order of the copies
                pixels = pinned.to(self._device, non_blocking=True)
                copied.record(self._stream)
                return pixels, CudaArrival(next(self._numbers), self._device, copied)

    def pin(self, array: NDArray[Any]) -> Tensor:
        """Return a copy in pinned memory: a copy from other memory may wait for the device."""
        dtype = torch.uint8 if array.dtype == np.uint8 else torch.int64
        pinned = torch.empty(array.shape, dtype=dtype, pin_memory=True)
        np.copyto(pinned.numpy(), array)
        return pinned

    def fetch(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Start copying results to pinned memory."""
        return [
            torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(
                result, non_blocking=True
            )
            for result in results
        ]

    def mark(self) -> Mark:
        """Record an event on the computing stream; a thread that waits for it sleeps."""
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
