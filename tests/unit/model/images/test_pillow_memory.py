from __future__ import annotations

import ctypes

import numpy as np
import pytest
from PIL import Image

from model.images.pillow_memory import packed_pixels, pixel_memory

# The last one is larger than one of Pillow's blocks, and no multiple of a strip.
SIZES = [(1, 1), (7, 3), (1, 999), (640, 480), (2503, 2001)]


@pytest.mark.parametrize("size", SIZES)
def test_the_pixels_are_the_images(size: tuple[int, int]) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    assert np.array_equal(packed_pixels(Image.fromarray(expected)), expected)


def test_they_are_a_copy() -> None:
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    pixels = packed_pixels(image)
    image.paste((9, 9, 9), (0, 0, 4, 4))
    assert set(pixels.ravel()) == {1, 2, 3}


def test_memory_outlives_the_image() -> None:
    image = Image.new("RGB", (640, 480), (1, 2, 3))
    memory = pixel_memory(image)
    del image
    Image.new("RGB", (640, 480), (9, 9, 9))
    assert ctypes.string_at(memory.address, 3) == bytes([1, 2, 3])
