"""Geometry of the dense tasks' inputs, against mmcv's formulas and a plain interpolation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.config import DETECTORS, SEGMENTERS, ScaledGeometry
from model.images.preprocess import (
    detection_input,
    detection_size,
    padded_size,
    segmentation_input,
    segmentation_size,
)

SEGMENTATION = SEGMENTERS["upernet_overlock_t"].geometry
DETECTION = DETECTORS["mask_rcnn_overlock_t"].geometry
SMALL = ScaledGeometry(short_side=64, long_side=256)
sides = st.integers(min_value=1, max_value=65_000)


@given(width=sides, height=sides, geometry=st.sampled_from([SEGMENTATION, DETECTION]))
@settings(derandomize=True)
def test_scaled_size_is_mmcvs(width: int, height: int, geometry: ScaledGeometry) -> None:
    assert detection_size(width, height, geometry) == mmcvs_size(width, height, geometry)


@pytest.mark.parametrize(
    ("width", "height", "geometry", "size"),
    [
        (500, 375, SEGMENTATION, (512, 704)),  # scaled to 512 x 683
        (375, 500, SEGMENTATION, (704, 512)),
        (1000, 200, SEGMENTATION, (416, 2048)),  # the long side decides: 410 x 2048
        (512, 512, SEGMENTATION, (512, 512)),
    ],
)
def test_segmenters_sides_are_the_next_multiples(
    width: int, height: int, geometry: ScaledGeometry, size: tuple[int, int]
) -> None:
    assert segmentation_size(width, height, geometry) == size


@given(width=sides, height=sides)
@settings(derandomize=True)
def test_sizes_stay_within_the_long_side(width: int, height: int) -> None:
    for size in (
        segmentation_size(width, height, SEGMENTATION),
        detection_size(width, height, DETECTION),
    ):
        assert min(size) >= 1
    assert max(segmentation_size(width, height, SEGMENTATION)) <= SEGMENTATION.long_side
    assert max(detection_size(width, height, DETECTION)) <= DETECTION.long_side


@pytest.mark.parametrize(
    ("size", "padded"),
    [((1, 1), (32, 32)), ((32, 64), (32, 64)), ((33, 65), (64, 96)), ((800, 1333), (800, 1344))],
)
def test_padding_goes_to_the_next_multiple(size: tuple[int, int], padded: tuple[int, int]) -> None:
    assert padded_size(*size, 32) == padded


@pytest.mark.parametrize(("width", "height"), [(50, 40), (97, 203)])
def test_a_grey_networks_inputs_are_those_of_the_grey_image(width: int, height: int) -> None:
    image = noise(width, height)
    grey = image.convert("L").convert("RGB")
    for square in (True, False):
        got = segmentation_input(image, SMALL, square=square, channels=1)
        assert np.array_equal(got, segmentation_input(grey, SMALL, square=square))
        assert (got == got[..., :1]).all()
    got = detection_input(image, SMALL, channels=1)
    assert np.array_equal(got, detection_input(grey, SMALL))
    assert (got == got[..., :1]).all()


@pytest.mark.parametrize(("width", "height"), [(50, 40), (97, 203), (300, 20), (640, 480)])
def test_detection_input_is_bilinear_and_not_antialiased(width: int, height: int) -> None:
    image = noise(width, height)
    got = detection_input(image, SMALL)
    want = bilinear(np.asarray(image), detection_size(width, height, SMALL))
    # OpenCV's weights are fixed-point numbers and it rounds.
    assert np.abs(got - want).max() <= 1


def test_segmentation_input_is_the_scaled_image_stretched_bicubically() -> None:
    image = noise(97, 203)
    scaled = detection_input(image, SMALL)
    assert scaled.shape == (134, 64, 3)
    got = segmentation_input(image, SMALL)
    assert got.shape == (160, 64, 3)
    want = cv2.resize(scaled, (64, 160), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(got, want)


def test_image_of_the_networks_size_passes_unchanged() -> None:
    image = noise(128, 64)
    assert np.array_equal(segmentation_input(image, SMALL), np.asarray(image))
    assert np.array_equal(detection_input(image, SMALL), np.asarray(image))


def test_square_input_gives_up_the_aspect_ratio() -> None:
    image = noise(300, 20)
    got = segmentation_input(image, SMALL, square=True)
    assert segmentation_size(300, 20, SMALL, square=True) == got.shape[:2] == (64, 64)
    assert np.abs(got - bilinear(np.asarray(image), (64, 64))).max() <= 1


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 30_000), (65_000, 1), (2, 3)])
def test_tiny_and_thin_images_keep_their_colour(width: int, height: int, square: bool) -> None:
    image = Image.new("RGB", (width, height), (10, 20, 30))
    segmented = segmentation_input(image, SEGMENTATION, square=square)
    assert segmented.shape == (*segmentation_size(width, height, SEGMENTATION, square=square), 3)
    assert (segmented == (10, 20, 30)).all()
    detected = detection_input(image, DETECTION)
    assert detected.shape == (*detection_size(width, height, DETECTION), 3)
    assert (detected == (10, 20, 30)).all()


def test_opencv_starts_no_threads() -> None:
    assert cv2.getNumThreads() == 1


def noise(width: int, height: int) -> Image.Image:
    """Return random pixels, the same ones for the same size."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def mmcvs_size(width: int, height: int, geometry: ScaledGeometry) -> tuple[int, int]:
    """Return (height, width): what mmcv 1.7.2's ``rescale_size`` says, but a pixel at least."""
    scale = (geometry.long_side, geometry.short_side)
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    new_width, new_height = int(width * float(factor) + 0.5), int(height * float(factor) + 0.5)
    return max(new_height, 1), max(new_width, 1)


def bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate between the pixel centres around each new one, borders going on for ever."""
    rows, row_shares = neighbours(pixels.shape[0], size[0])
    columns, column_shares = neighbours(pixels.shape[1], size[1])
    across = np.einsum("rcnk,nc->rnk", pixels[:, columns].transpose(0, 2, 1, 3), column_shares)
    resized: np.ndarray = np.einsum("rcnk,rc->rnk", across[rows], row_shares)
    return resized


def neighbours(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two pixels and their weights for each new pixel, both (new_length, 2)."""
    centres = (np.arange(new_length) + 0.5) * length / new_length - 0.5
    low = np.floor(centres).astype(int)
    share = centres - low
    places = np.clip(np.stack((low, low + 1), axis=1), 0, length - 1)
    return places, np.stack((1 - share, share), axis=1)
