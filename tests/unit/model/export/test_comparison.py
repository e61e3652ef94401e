"""A file that is not the network's function is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from model.config import ClassificationGeometry, ScaledGeometry
from model.export.comparison import (
    expected_logits,
    largest_difference,
    limit_of,
    sample_images,
)
from model.images.input_config import InputConfig

Array = NDArray[np.float32]
CLASSIFIER = InputConfig(ClassificationGeometry(64, 1.0))
SEGMENTER = InputConfig(ScaledGeometry(64, 256))


def off_by(difference: float, batch: int) -> float:
    """Return what is found of a file that is off in batches of one size."""
    images, expected = np.zeros((3, 1, 2, 2), np.float32), np.ones((3, 4), np.float32)

    def run(given: Array) -> Array:
        wrong = difference if len(given) == batch else 0
        return expected[: len(given)] + np.float32(wrong)

    return largest_difference(run, images, expected)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_difference_in_any_batch_is_refused(batch: int) -> None:
    with pytest.raises(ValueError, match=r"differ by 1\.1e-04 from the network's, more than 1e-04"):
        off_by(1.1e-4, batch)


def test_the_largest_difference_is_told() -> None:
    assert off_by(5e-5, 2) == pytest.approx(5e-5, rel=1e-2)  # float32 near 1


@pytest.mark.parametrize(
    ("largest", "limit"),
    [(0.01, 1e-4), (-10, 1e-4), (63, 1e-4), (100, 16 * 2.0**-17), (-2300, 16 * 2.0**-12)],
)
def test_the_limit_grows_only_where_float32_is_coarse(largest: float, limit: float) -> None:
    assert limit_of(np.array([0, largest], np.float32)) == limit


def test_a_logit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="differ by nan"):
        off_by(float("nan"), 1)


def test_the_logits_are_those_of_the_images() -> None:
    images = sample_images(CLASSIFIER, (64, 64), None)
    expected = expected_logits(nn.Flatten(), images)
    np.testing.assert_array_equal(expected, images.reshape(3, -1))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("config", "size"), [(CLASSIFIER, (64, 64)), (SEGMENTER, (96, 64))], ids=["crop", "stretch"]
)
def test_a_photograph_takes_the_place_of_the_first_scene(
    config: InputConfig, size: tuple[int, int]
) -> None:
    scenes = sample_images(config, size, None)
    photo = Image.new("RGB", (200, 100), (255, 0, 51))
    images = sample_images(config, size, photo)
    assert images.shape == scenes.shape == (3, 3, *size)
    np.testing.assert_array_equal(images[1:], scenes[1:])
    expected = (np.array([1, 0, 0.2]) - config.mean) / config.std
    # float32
    np.testing.assert_allclose(images[0].max(axis=(1, 2)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "geometry", [CLASSIFIER.geometry, SEGMENTER.geometry], ids=["crop", "stretch"]
)
def test_a_grey_network_gets_one_channel(
    geometry: ClassificationGeometry | ScaledGeometry,
) -> None:
    grey = InputConfig(geometry, (0.5,), (0.25,))
    images = sample_images(grey, (64, 64), Image.new("RGB", (80, 80), (0, 255, 0)))
    assert images.shape == (3, 1, 64, 64)
    # Pillow's grey of pure green is 149 or 150.
    np.testing.assert_allclose(images[0], (150 / 255 - 0.5) / 0.25, atol=0.02)
