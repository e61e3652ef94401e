"""Copies of pixels to the device while it computes, and of results back.

Images are staged one by one, when they arrive; a batch is composed of staged images when the device
is ready for it. So copies overlap with the running batch, and the next batch is composed as late as
possible.

A batch may be launched before the results of the one before it are received. All that batches read
and write on the device is then in the order of one stream, the computing one, so nothing is
overwritten before it was read:

- A recording's inputs are written behind the replay that reads them, and its outputs are copied to
  the host behind the replay that writes them and before the next one.
- Memory of that stream which is freed is reused by later work of that stream alone. Captures have
  a stream of their own; it waits for the computing one, which waits for it.
- A staged image has memory of the copying stream, where a later image could be copied to it at any
  time. So it is held here until the copy out of it is known to be done.
- Pinned memory is fresh for each transfer. PyTorch reuses it when it is freed and the copies that
  use it are done.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from model.heads.detections import Detections
from model.inference.copies import Arrival, Copier, CudaCopier, Mark
from model.inference.static_module import Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STAGED_BYTES = 256 * 2**20
"""Device memory for images that wait for their batch: 1,700 of 224x224."""

Row = TypeVar("Row")


@dataclass(frozen=True, eq=False)
class StagedImage:
    """An image that waits for its batch.

    Attributes:
        pixels: (h, w, 3) uint8, on the device, or still on the host.
        size: height and width, pixels.
        arrival: the end of the copy to a device with memory of its own; else None.
    """

    pixels: Tensor | NDArray[np.uint8]
    size: tuple[int, int]
    arrival: Arrival | None = None


@dataclass(frozen=True)
class Receipt:
    """Results on their way to the host.

    Attributes:
        tensors: complete after ``wait``.
        arrived: waits for them.
    """

    tensors: list[Tensor]
    arrived: Callable[[], None]

    def wait(self) -> list[Tensor]:
        """Wait for the results and return them, in the host's memory; on any thread."""
        self.arrived()
        return self.tensors


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
        self._reading: deque[tuple[Mark, Sequence[StagedImage]]] = deque()
        self._lock = threading.RLock()  # a finalizer may run inside of stage

    @property
    def staged_bytes(self) -> int:
        """Device memory of the images that wait for their batch, or are copied to it."""
        return self._staged_bytes

    def stage(self, image: NDArray[np.uint8]) -> StagedImage:
        """Start copying an image to the device, if there is room for it."""
        size = image.shape[0], image.shape[1]
        if self._copier is None or not self._reserve(image.nbytes):
            return StagedImage(image, size)
        try:
            pixels, arrival = self._copier.send(image)
        except RuntimeError:
            # Memory's end has many types; a device that is lost shows when its batch runs.
            self._release(image.nbytes)
            return StagedImage(image, size)
        staged = StagedImage(pixels, size, arrival)
        weakref.finalize(staged, self._release, image.nbytes)
        return staged

    def batch(
        self,
        images: Sequence[StagedImage],
        shape: tuple[int, int, int],
        place: Tensors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compose a batch.

        Args:
            images: none larger than the shape.
            shape: batch size, height and width.
            place: where to write pixels and sizes, on a device with memory of its own.

        Returns:
            What ``StaticModule.forward`` takes, on the device. Pixels, uint8 (B, H, W, 3), are zero
            right of and below an image and in the entries behind the last one; the sizes of those
            are the shape's.
        """
        sizes = [*(image.size for image in images), *[shape[1:]] * (shape[0] - len(images))]
        if self._copier is None:
            gathered = np.zeros((*shape, 3), np.uint8)
            for entry, image in zip(gathered, images, strict=False):
                entry[: image.size[0], : image.size[1]] = image.pixels
            return torch.from_numpy(gathered), torch.tensor(sizes)
        self._forget_read()
        pixels, places = place or (
            torch.empty((*shape, 3), dtype=torch.uint8, device=self._device),
            torch.empty((shape[0], 2), dtype=torch.int64, device=self._device),
        )
        places.copy_(self._copier.pin(np.array(sizes)), non_blocking=True)
        if all(size == shape[1:] for size in sizes) and len(images) == shape[0]:
            entries = list(pixels.unbind())
        else:
            pixels.zero_()
            entries = [
                entry[: image.size[0], : image.size[1]]
                for entry, image in zip(pixels, images, strict=False)
            ]
        if images:
            self._gather(self._copier, images, entries)
        return pixels, places

    def send(self, numbers: NDArray[np.int64]) -> Tensor:
        """Copy a few numbers to the device, in the order of the computing stream; do not wait."""
        if self._copier is None:
            return torch.from_numpy(numbers)
        return self._copier.pin(numbers).to(self._device, non_blocking=True)

    def fetch(self, results: Sequence[Tensor]) -> Receipt:
        """Start copying results to the host's memory, behind the computation, before later work."""
        if self._copier is None:
            return Receipt(list(results), lambda: None)
        tensors, mark = self._copier.fetch(results), self._copier.mark()

        def arrived() -> None:
            mark.synchronize()
            self._forget_read()

        return Receipt(tensors, arrived)

    def receive(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Wait for results and return them in the host's memory."""
        return self.fetch(results).wait()

    def _gather(self, copier: Copier, images: Sequence[StagedImage], entries: list[Tensor]) -> None:
        """Copy images to their entries: one wait and one call, however many there are."""
        sources, last = [], None
        for image in images:
            pixels, arrival = image.pixels, image.arrival
            sources.append(pixels if isinstance(pixels, Tensor) else copier.pin(pixels))
            if arrival is not None and (last is None or arrival.number > last.number):
                last = arrival
        if last is not None:
            last.wait()  # copies arrive in order: this is the arrival of all
        try:
            torch._foreach_copy_(entries, sources, non_blocking=True)
        finally:
            with self._lock:
                self._reading.append((copier.mark(), images))

    def _forget_read(self) -> None:
        """Let go of the images that were copied to their batch."""
        with self._lock:
            while self._reading and self._reading[0][0].query():
                self._reading.popleft()

    def _reserve(self, size_bytes: int) -> bool:
        with self._lock:
            if self._staged_bytes + size_bytes > self._max_bytes:
                return False
            self._staged_bytes += size_bytes
            return True

    def _release(self, size_bytes: int) -> None:
        with self._lock:
            self._staged_bytes -= size_bytes


def image_size(image: NDArray[np.uint8] | StagedImage) -> tuple[int, int]:
    """Return an image's height and width, pixels."""
    return image.size if isinstance(image, StagedImage) else (image.shape[0], image.shape[1])


def staging_for(device: torch.device) -> Staging:
    """Return the staging that a device needs."""
    return Staging(device, CudaCopier(device) if device.type == "cuda" else None)


def where_finite(rows: Iterable[Row], finite: Tensor) -> list[Row | None]:
    """Return the finite rows, None for the others; ``finite`` also covers padding."""
    return [
        row if is_finite else None for row, is_finite in zip(rows, finite.tolist(), strict=False)
    ]


def where_usable(found: Detections) -> Detections | None:
    """Return an image's detections, or None if a number is not finite."""
    floats = (found.boxes, found.scores, found.masks)
    return found if all(tensor.isfinite().all() for tensor in floats) else None


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one: kernels are launched on it, whatever their tensors' device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
