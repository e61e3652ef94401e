from __future__ import annotations

import logging
from typing import cast

import pytest
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

    def start_over(self) -> None:
        self.prepared.clear()

    def dry_run(self, shape: tuple[int, int, int]) -> None:
        assert self.prepared[-1] == shape


class LimitedOperator(SmallDevice):
    """Has memory, but an operator that takes a limited number of pixels."""

    def dry_run(self, shape: tuple[int, int, int]) -> None:
        if shape[0] * shape[1] * shape[2] > self.pixels // 2:
            raise RuntimeError("numel() must be below 2**31")


class RecordingDevice:
    """Records shapes in a pool that only starting over frees; 16 of the second size do not fit."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, int, int]] = []

    def prepare(self, shape: tuple[int, int, int]) -> None:
        if shape == (16, *SIZES[1]):
            raise torch.OutOfMemoryError("no room")
        self.recorded.append(shape)

    def start_over(self) -> None:
        self.recorded.clear()

    def dry_run(self, shape: tuple[int, int, int]) -> None:
        """Replay."""


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


def test_a_batch_over_an_operators_limit_does_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fitting(LimitedOperator(4 * 8 * 16), 1, 2, 4) == (1, 2)
    assert "Batches of 4 images do not fit: numel() must be below 2**31" in caplog.text


def test_a_failure_of_the_smallest_batch_is_raised() -> None:
    with pytest.raises(RuntimeError, match="numel"):
        fitting(LimitedOperator(8 * 16), 1, 2)


def test_recordings_of_batch_sizes_that_were_given_up_are_forgotten() -> None:
    device = RecordingDevice()
    assert fitting_batch_sizes(cast("Predictor", device), (1, 8, 16), SIZES) == (1, 8)
    assert {shape[0] for shape in device.recorded} == {1, 8}
