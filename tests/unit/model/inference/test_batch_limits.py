from __future__ import annotations

from typing import cast

import torch

from model.inference.batch_limits import fitting_batch_sizes
from model.inference.predictor import Predictor

SIZES = ((8, 8), (8, 16))


class SmallDevice:
    """Has memory for a limited number of pixels."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.prepared: list[tuple[int, int, int]] = []

    def prepare(self, shape: tuple[int, int, int]) -> None:
        if shape[0] * shape[1] * shape[2] > self.pixels:
            raise torch.OutOfMemoryError("no room")
        self.prepared.append(shape)

    def dry_run(self, shape: tuple[int, int, int]) -> None:
        assert self.prepared[-1] == shape


def fitting(device: SmallDevice, *batch_sizes: int) -> tuple[int, ...]:
    return fitting_batch_sizes(cast("Predictor", device), batch_sizes, SIZES)


def test_every_batch_of_every_input_is_prepared_the_largest_first() -> None:
    device = SmallDevice(10_000)
    assert fitting(device, 1, 2, 4) == (1, 2, 4)
    assert device.prepared == [(count, *size) for count in (4, 2, 1) for size in SIZES]


def test_sizes_end_where_the_largest_input_does_not_fit() -> None:
    device = SmallDevice(2 * 8 * 16)
    assert fitting(device, 1, 2, 4) == (1, 2)


def test_nothing_fits_where_not_even_one_image_does() -> None:
    assert fitting(SmallDevice(100), 1, 2) == ()
