from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.commands.batch.datasets.brush import brush_runs

SHAPES = [(1, 1), (3, 5), (64, 80), (130, 130)]


def decoded(content: list[int]) -> NDArray[np.uint8]:
    """Decode a stream as label-studio-sdk does."""
    bits, at = "".join(f"{byte:08b}" for byte in content), 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    count, value_bits = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        assert read(1), "a run"
        end = place + 1 + read(sizes[read(2)])
        values[place:end] = read(value_bits)
        place = end
    return values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_mask_comes_back_in_four_channels(shape: tuple[int, int], share: float) -> None:
    mask = (np.random.default_rng(7).random(shape) < share).astype(np.uint8)
    values = decoded(brush_runs(mask)).reshape(*shape, 4)
    np.testing.assert_array_equal(values, 255 * mask[..., None].repeat(4, axis=2))


def test_long_runs_are_short() -> None:
    assert len(brush_runs(np.ones((1000, 1000), np.uint8))) < 300
