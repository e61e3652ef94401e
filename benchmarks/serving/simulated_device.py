"""A device of known cost, so that the rest of a request's time is the serving layer's.

A batch of n takes 5 ms + 0.5 ms n, during which the thread sleeps, as one that waits for a GPU
does. Torch-free: every contestant imports it, each in its own environment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES = 1000
MAX_BATCH_SIZE = 16
"""The service's default; the peers get the same."""

PIXEL_STEP = 8
"""Step between the rows and columns that scores are made of: every eighth row and column of a
224 x 224 input are 2352 values, enough for all classes."""


@dataclass(frozen=True)
class DeviceCost:
    """Seconds for a batch of n: ``fixed_seconds + n * per_image_seconds``."""

    fixed_seconds: float = 0.005
    per_image_seconds: float = 0.0005

    def seconds(self, size: int) -> float:
        """Return the time of a batch of ``size``."""
        return self.fixed_seconds + size * self.per_image_seconds


DEVICE_COST = DeviceCost()


def run_batch(
    images: Sequence[NDArray[np.uint8]],
    cost: DeviceCost = DEVICE_COST,
    *,
    places: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[NDArray[np.float32]]:
    """Score a batch, taking as long as the device would.

    Args:
        images: (224, 224, 3) uint8 each.
        cost: the device's.
        places: size of the batch with padding; by default without padding.
        clock: seconds.
        sleep: waits for so many seconds.

    Returns:
        Scores that depend on the pixels alone, (CLASSES,) each, so that a client can check that an
        answer belongs to its image.
    """
    started = clock()
    scores = [image_scores(image) for image in images]
    left_seconds = started + cost.seconds(places or len(images)) - clock()
    if left_seconds > 0:
        sleep(left_seconds)
    return scores


def image_scores(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return scores that sum to one, (CLASSES,), from the pixels alone."""
    values = image[::PIXEL_STEP, ::PIXEL_STEP].reshape(-1)[:CLASSES].astype(np.float32)
    scores: NDArray[np.float32] = values / values.sum()
    return scores
