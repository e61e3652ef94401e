"""Brings pixels to the device while it works on something else, and results back.

Images are staged one by one, when they arrive; a batch is composed of staged images when the device
is ready for it. So the copy is hidden behind the batch that runs, and yet nothing has to decide
early who is in the next one.
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
"""Most that images which still wait for their batch take on the device: 1,700 of 224x224."""


@dataclass(frozen=True, eq=False)
class StagedImage:
    """An image on its way.

    Attributes:
        pixels: (h, w, 3) uint8, on the device, or still on the host.
        arrival: after which pixels on a device with memory of its own may be read; else None.
    """

    pixels: Tensor | NDArray[np.uint8]
    arrival: Arrival | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Arrival(Protocol):
    """A moment in the copying stream's work: a CUDA event."""

    def wait(self) -> None:
        """Let what the computing stream gets from now on wait for it; does not block."""


class Copier(Protocol):
    """What staging needs of a device with memory of its own."""

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device, behind nothing that computes."""

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Copy results to the host behind the computation, and wait for them."""


class Staging:
    """Stages images for one device.

    ``stage`` may be called from any thread, the other methods from the one that computes. Pixels
    beyond the bound stay on the host until their batch is composed: slower, but never out of
    memory.

    Args:
        device: where batches run.
        copier: for a device with memory of its own; None where the host's memory is the device's,
            and staging is nothing at all.
        max_bytes: most that waiting images take on the device.
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
        """What images take on the device that wait for their batch."""
        return self._staged_bytes

    def stage(self, image: NDArray[np.uint8]) -> StagedImage:
        """Start bringing an image to the device, if there is room for it."""
        if self._copier is None or not self._reserve(image.nbytes):
            return StagedImage(image)
        try:
            staged = StagedImage(*self._copier.send(image))
        except torch.OutOfMemoryError:
            self._release(image.nbytes)
            return StagedImage(image)
        weakref.finalize(staged, self._release, image.nbytes)
        return staged

    def batch(self, images: Sequence[StagedImage], shape: tuple[int, int, int]) -> Tensor:
        """Compose a batch.

        Args:
            images: none larger than the shape.
            shape: places, height and width.

        Returns:
            Pixels on the device, uint8 (B, H, W, 3): zeros right of and below an image and in the
            places behind the last one.
        """
        if self._copier is None:
            gathered = np.zeros((*shape, 3), np.uint8)
            for place, image in zip(gathered, images, strict=False):
                place[: image.size[0], : image.size[1]] = image.pixels
            return torch.from_numpy(gathered)
        batch = torch.zeros((*shape, 3), dtype=torch.uint8, device=self._device)
        for place, image in zip(batch, images, strict=False):
            pixels, arrival = image.pixels, image.arrival
            if isinstance(pixels, np.ndarray):
                pixels, arrival = self._copier.send(pixels)
            if arrival is not None:
                arrival.wait()
            place[: image.size[0], : image.size[1]].copy_(pixels)
        return batch

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Return results in the host's memory, complete."""
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


class CudaCopier:
    """Copies on a stream of its own, from and to pinned memory.

    PyTorch's allocator of pinned memory keeps a buffer until the copies that use it are done, and
    hands it out again after that, so there are no buffers to manage here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Start copying an image to the device."""
        pinned = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
        np.copyto(pinned.numpy(), image)
        with torch.cuda.stream(self._stream):
            pixels = pinned.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        # The memory is the copying stream's; it must not be reused while a batch reads it.
        pixels.record_stream(torch.cuda.default_stream(self._device))
        return pixels, copied

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Copy results to the host and wait for them; the thread sleeps meanwhile."""
        received = [
            torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(
                result, non_blocking=True
            )
            for result in results
        ]
        done = torch.cuda.Event(blocking=True)
        done.record()
        done.synchronize()
        return received


def staging_for(device: torch.device) -> Staging:
    """Return the staging that a device needs."""
    return Staging(device, CudaCopier(device) if device.type == "cuda" else None)
