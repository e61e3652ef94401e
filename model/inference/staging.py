"""Copies of pixels to the device while it computes, and of results back.

Images are staged one by one, when they arrive; a batch is composed of staged images when the device
is ready for it. So copies overlap with the running batch, and the next batch is composed as late as
possible.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STAGED_BYTES = 256 * 2**20
"""Device memory for images that wait for their batch: 1,700 of 224x224."""


@dataclass(frozen=True, eq=False)
class StagedImage:
    """An image that waits for its batch.

    Attributes:
        pixels: (h, w, 3) uint8, on the device, or still on the host.
        arrival: the end of the copy to a device with memory of its own; else None.
    """

    pixels: Tensor | NDArray[np.uint8]
    arrival: Arrival | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Arrival(Protocol):
    """The completion of a copy, such as a CUDA event."""

    def wait(self) -> None:
        """Make later work of the computing stream wait for it; does not block."""


class Copier(Protocol):
    """Copies to and from a device with memory of its own."""

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device; does not wait for computation."""

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Copy results to the host after the computation, and wait for them."""


class Staging:
    """Stages images for one device.

    ``stage`` may be called from any thread, the other methods from the one that computes. Images
    beyond the limit stay on the host until their batch is composed: slower, but never out of
    memory.

    Args:
        device: where batches run.
        copier: for a device with memory of its own; None on a CPU, where staging copies nothing.
        max_bytes: device memory for waiting images.
    """

    def __init__(
        self,
        device: torch.device,
        copier: Copier | None = None,
        max_bytes: int = MAX_STAGED_BYTES,
    ) -> None:
        self._device = device
        self._copier = copier
        self._max_bytes = max_bytes
        self._staged_bytes = 0
        self._lock = threading.RLock()  # a finalizer may run inside of stage

    @property
    def staged_bytes(self) -> int:
        """Device memory of the images that wait for their batch."""
        return self._staged_bytes

    def stage(self, image: NDArray[np.uint8]) -> StagedImage:
        """Start copying an image to the device, if there is room for it."""
        if self._copier is None or not self._reserve(image.nbytes):
            return StagedImage(image)
        try:
            staged = StagedImage(*self._copier.send(image))
        except RuntimeError:
            # Memory's end has many types; a device that is lost shows when its batch runs.
            self._release(image.nbytes)
            return StagedImage(image)
        weakref.finalize(staged, self._release, image.nbytes)
        return staged

    def batch(self, images: Sequence[StagedImage], shape: tuple[int, int, int]) -> Tensor:
        """Compose a batch.

        Args:
            images: none larger than the shape.
            shape: batch size, height and width.

        Returns:
            Pixels on the device, uint8 (B, H, W, 3), zero right of and below an image and in the
            entries behind the last one.
        """
        if self._copier is None:
            gathered = np.zeros((*shape, 3), np.uint8)
            for entry, image in zip(gathered, images, strict=False):
                entry[: image.size[0], : image.size[1]] = image.pixels
            return torch.from_numpy(gathered)
        batch = torch.zeros((*shape, 3), dtype=torch.uint8, device=self._device)
        for entry, image in zip(batch, images, strict=False):
            pixels, arrival = image.pixels, image.arrival
            if isinstance(pixels, np.ndarray):
                pixels, arrival = self._copier.send(pixels)
            if arrival is not None:
                arrival.wait()
            entry[: image.size[0], : image.size[1]].copy_(pixels)
        return batch

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Wait for results and return them in the host's memory."""
        return list(results) if self._copier is None else self._copier.receive(results)

    def _reserve(self, size_bytes: int) -> bool:
        with self._lock:
            if self._staged_bytes + size_bytes > self._max_bytes:
                return False
            self._staged_bytes += size_bytes
            return True

    def _release(self, size_bytes: int) -> None:
        with self._lock:
            self._staged_bytes -= size_bytes


class CudaArrival:
    """The end of a copy to a GPU, for the stream that computes, whichever that is."""

    def __init__(self, pixels: Tensor, copied: torch.cuda.Event) -> None:
        self._pixels = pixels
        self._copied = copied

    def wait(self) -> None:
        """Make the computing thread's stream wait, and keep the memory until it is done."""
        stream = torch.cuda.current_stream(self._pixels.device)
        stream.wait_event(self._copied)
        # Allocated on the copying stream: it must not be reused while a batch reads it.
        self._pixels.record_stream(stream)


class CudaCopier:
    """Copies on a stream of its own, from and to pinned memory.

    PyTorch's allocator of pinned memory reuses a buffer only after the copies that use it are done,
    so no buffers are managed here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device."""
        # The stream's device is the current one inside, in whatever thread.
        with torch.cuda.stream(self._stream):
            pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
            np.copyto(pinned.numpy(), image)
            pixels = pinned.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return pixels, CudaArrival(pixels, copied)

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Copy results to the host and wait for them; the thread sleeps meanwhile."""
        received = [
            torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(
                result, non_blocking=True
            )
            for result in results
        ]
        done = torch.cuda.Event(blocking=True)
        done.record(torch.cuda.current_stream(self._device))
        done.synchronize()
        return received


def staging_for(device: torch.device) -> Staging:
    """Return the staging that a device needs."""
    return Staging(device, CudaCopier(device) if device.type == "cuda" else None)
