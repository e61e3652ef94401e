from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from PIL import Image

from model.images.pillow_memory import image_over, packed_pixels, pixel_memory

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


@pytest.mark.parametrize("size", [size for size in SIZES if min(size) > 2])
def test_a_part_of_the_pixels_is_the_images(size: tuple[int, int]) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    left, top, right, bottom = 1, 1, size[0] - 1, size[1]
    part = packed_pixels(Image.fromarray(expected), (left, top, right, bottom))
    assert np.array_equal(part, expected[top:bottom, left:right])


@pytest.mark.parametrize("size", SIZES)
def test_an_image_over_pixels_is_like_one_with_a_copy_of_them(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image, copied = image_over(pixels), Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    assert (image.mode, image.size) == ("RGB", size)
    assert np.array_equal(np.asarray(image), pixels[..., :3])
    assert np.array_equal(packed_pixels(image), pixels[..., :3])
    assert image == copied
    for turn in Image.Transpose:
        assert image.transpose(turn) == copied.transpose(turn)
    assert image.resize((5, 4)) == copied.resize((5, 4))
    assert image.convert("L") == copied.convert("L")


def test_an_image_over_pixels_copies_nothing_and_does_not_change_them() -> None:
    pixels = np.zeros((48, 64, 4), np.uint8)
    image = image_over(pixels)
    assert pixel_memory(image).address == pixels.ctypes.data
    image.paste((9, 9, 9), (0, 0, 4, 4))
    assert image.getpixel((0, 0)) == (9, 9, 9)
    assert not pixels.any()


def test_the_pixels_live_as_long_as_an_image_or_its_memory_and_no_longer() -> None:
    pixels = np.zeros((48, 64, 4), np.uint8)
    alive = weakref.ref(pixels)
    image = image_over(pixels)
    memory = pixel_memory(image)
    del pixels, image
    gc.collect()
    assert alive() is not None
    assert ctypes.string_at(memory.address, 3) == bytes(3)
    del memory
    gc.collect()
    assert alive() is None


def test_an_image_that_lives_until_the_interpreter_ends_does_no_harm() -> None:
    program = (
        "import sys, numpy; from model.images.pillow_memory import image_over; "
        "sys.kept = image = image_over(numpy.zeros((48, 64, 4), numpy.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""
