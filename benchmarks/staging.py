"""Time what the host does to compose a batch of staged images, without a device.

Images are one pixel large, so that next to nothing is copied: what is left are Python and PyTorch's
dispatch. A GPU's driver adds its own time to each wait and each copy.

    python benchmarks/staging.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from model.inference.copies import Arrival, Mark
from model.inference.staging import StagedImage, Staging

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (1, 16, 64, 256)
ROUNDS = 400


@dataclass
class _Moment:
    """A place in a stream that is always passed."""

    number: int

    def wait(self) -> None:
        """Wait for nothing."""

    def query(self) -> bool:
        """Return that it is passed."""
        return True

    def synchronize(self) -> None:
        """Wait for nothing."""


class _HostCopier:
    """Copies in the host's memory."""

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        return torch.from_numpy(image), _Moment(0)

    def pin(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array)

    def fetch(self, results: Sequence[Tensor]) -> list[Tensor]:
        return list(results)

    def mark(self) -> Mark:
        return _Moment(0)


def image_by_image(images: Sequence[StagedImage], pixels: Tensor, sizes: Tensor) -> None:
    """Wait for each image and copy it, as it was done before."""
    sizes.copy_(torch.tensor([image.size for image in images]))
    for entry, image in zip(pixels, images, strict=True):
        assert image.arrival is not None
        assert isinstance(image.pixels, Tensor)
        image.arrival.wait()
        entry[: image.size[0], : image.size[1]].copy_(image.pixels)


def microseconds(run: Callable[[], object]) -> float:
    """Return the median time of a call."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1e6 * median(seconds)


def main() -> None:
    """Print a table."""
    print("| images | image by image, us | at once, us |")
    print("| --: | --: | --: |")
    with torch.inference_mode():
        for count in BATCHES:
            staging = Staging(torch.device("cpu"), _HostCopier())
            images = [staging.stage(np.zeros((1, 1, 3), np.uint8)) for _ in range(count)]
            shape = (count, 1, 1)
            pixels, sizes = staging.batch(images, shape)
            before = microseconds(lambda: image_by_image(images, pixels, sizes))  # noqa: B023
            after = microseconds(lambda: staging.batch(images, shape, (pixels, sizes)))  # noqa: B023
            print(f"| {count} | {before:.0f} | {after:.0f} |")


if __name__ == "__main__":
    main()
