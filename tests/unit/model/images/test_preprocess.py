"""Geometry of the classifier's input, against the formulas of timm's evaluation transform."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.config import CLASSIFIERS, ClassificationGeometry, Interpolation
from model.images.preprocess import (
    EXTREME_ASPECT_RATIO,
    classification_input,
    classified_region,
    resized_size,
)

GEOMETRY = CLASSIFIERS["overlock_xt"].geometry
sides = st.integers(min_value=1, max_value=20_000)


@given(width=sides, height=sides, short_side=st.sampled_from([224, 229, 235, 242]))
@settings(derandomize=True)
def test_resized_size_is_torchvisions(width: int, height: int, short_side: int) -> None:
    short, long = sorted((width, height))
    new_long = int(short_side * long / short)
    want = (short_side, new_long) if width <= height else (new_long, short_side)
    assert resized_size(width, height, short_side) == want


@given(crop_size=st.integers(32, 512), crop_fraction=st.sampled_from([0.925, 0.95, 0.975, 1.0]))
@settings(derandomize=True)
def test_resize_side_is_timms_floor(crop_size: int, crop_fraction: float) -> None:
    geometry = ClassificationGeometry(crop_size, crop_fraction)
    assert geometry.resize_short_side == math.floor(crop_size / crop_fraction)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(
    ("width", "height"), [(500, 349), (371, 500), (224, 224), (1000, 999), (350, 1000), (100, 800)]
)
def test_input_is_timms_resize_and_centre_crop(name: str, width: int, height: int) -> None:
    geometry = CLASSIFIERS[name].geometry
    image = noise(width, height)
    assert np.array_equal(classification_input(image, geometry), timms_input(image, geometry))


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    crop_size=st.integers(32, 300),
    crop_fraction=st.floats(0.1, 1),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_input_of_any_size_crop_and_filter_is_timms(
    width: int, height: int, crop_size: int, crop_fraction: float, interpolation: Interpolation
) -> None:
    assume(max(width, height) <= EXTREME_ASPECT_RATIO * min(width, height))
    assume(crop_size / crop_fraction * max(width, height) / min(width, height) < 5000)
    geometry = ClassificationGeometry(crop_size, crop_fraction, interpolation)
    image = noise(width, height)
    got = classification_input(image, geometry)
    assert got.shape == (crop_size, crop_size, 3)
    assert np.array_equal(got, timms_input(image, geometry))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_quarter_is_antialiased_by_its_filter(interpolation: Interpolation) -> None:
    """A fine pattern of black and white becomes grey: without antialiasing it would stay."""
    rows, columns = np.indices((512, 512))
    pattern = ((rows + columns) % 2 * 255).astype(np.uint8)
    image = Image.fromarray(np.dstack([pattern] * 3))
    got = classification_input(image, ClassificationGeometry(128, 1.0, interpolation))
    assert np.abs(got[2:-2, 2:-2].astype(int) - 127).max() <= 1


def test_bilinear_is_another_filter_than_bicubic() -> None:
    image, bilinear = noise(300, 200), replace(GEOMETRY, interpolation="bilinear")
    got = classification_input(image, bilinear).astype(int) - classification_input(image, GEOMETRY)
    assert np.abs(got).max() > 10


def test_the_largest_input_of_a_tiny_image_is_made() -> None:
    geometry = ClassificationGeometry(4096, 0.1, "bilinear")
    got = classification_input(Image.new("RGB", (24, 3), (10, 20, 30)), geometry)
    assert got.shape == (4096, 4096, 3)
    assert (got == (10, 20, 30)).all()


def test_crop_of_an_odd_margin_rounds_half_to_even() -> None:
    # 229 - 224 leaves 2.5 pixels on either side, and Python rounds that to 2.
    geometry = CLASSIFIERS["overlock_b"].geometry
    image = noise(229, 229)
    want = np.asarray(image)[2:226, 2:226]
    assert np.array_equal(classification_input(image, geometry), want)


@pytest.mark.parametrize(
    ("width", "height"), [(40, 321), (321, 40), (307, 4759), (5000, 30), (3, 200), (1, 300)]
)
def test_extreme_aspect_ratio_gives_the_same_within_a_grey_level(width: int, height: int) -> None:
    assert max(width, height) > EXTREME_ASPECT_RATIO * min(width, height)
    image = noise(width, height)
    got = classification_input(image, GEOMETRY).astype(int)
    assert np.abs(got - timms_input(image, GEOMETRY)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (2, 3), (1, 65_000)])
def test_tiny_and_thin_images_fill_the_crop(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (10, 20, 30))
    got = classification_input(image, GEOMETRY)
    assert got.shape == (224, 224, 3)
    assert got.dtype == np.uint8
    assert (got == (10, 20, 30)).all()


def test_converted_grey_image_stays_grey() -> None:
    got = classification_input(noise(300, 200).convert("L").convert("RGB"), GEOMETRY)
    assert (got == got[..., :1]).all()


@pytest.mark.parametrize(("width", "height"), [(300, 200), (201, 333), (7, 500)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_grey_networks_input_is_made_grey_before_its_resize(
    width: int, height: int, interpolation: Interpolation
) -> None:
    """Pillow resizes the grey image; grey pixels of a resized colour image would be others."""
    image, geometry = noise(width, height), replace(GEOMETRY, interpolation=interpolation)
    got = classification_input(image, geometry, channels=1)
    assert got.shape == (224, 224, 3)
    assert (got == got[..., :1]).all()
    grey = image.convert("L")
    if max(width, height) <= EXTREME_ASPECT_RATIO * min(width, height):
        assert np.array_equal(got[..., 0], timms_input(grey, geometry))
        coloured = Image.fromarray(classification_input(image, geometry)).convert("L")
        assert not np.array_equal(got[..., 0], np.asarray(coloured))


def noise(width: int, height: int) -> Image.Image:
    """Return random pixels, the same ones for the same size."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def timms_input(image: Image.Image, geometry: ClassificationGeometry) -> np.ndarray:
    """Resize the whole image, then crop: what timm 0.6.12 asks of torchvision."""
    side, crop = math.floor(geometry.crop_size / geometry.crop_fraction), geometry.crop_size
    if image.width <= image.height:
        size = side, int(side * image.height / image.width)
    else:
        size = int(side * image.width / image.height), side
    # timm's Pillow resized along the rows first; Pillow 13 does not for every tall image.
    resample = Image.Resampling[geometry.interpolation.upper()]
    rows = image.resize((size[0], image.height), resample)
    resized = np.asarray(rows.resize(size, resample))
    top = round((resized.shape[0] - crop) / 2)
    left = round((resized.shape[1] - crop) / 2)
    return resized[top : top + crop, left : left + crop]


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (224, 224), (31, 2000), (7, 5)])
@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_the_region_is_what_the_crop_shows(size: tuple[int, int], fraction: float) -> None:
    geometry = ClassificationGeometry(224, fraction)
    x, y, width, height = classified_region(*size, geometry)
    assert 0 <= x < x + width <= size[0] + 1e-9
    assert 0 <= y < y + height <= size[1] + 1e-9
    short = min(size)
    assert width == pytest.approx(short * fraction, rel=0.02)
    assert height == pytest.approx(short * fraction, rel=0.02)
    # In the middle, to a pixel of the resized image.
    pixel = short / geometry.resize_short_side
    assert x + width / 2 == pytest.approx(size[0] / 2, abs=pixel)
    assert y + height / 2 == pytest.approx(size[1] / 2, abs=pixel)
