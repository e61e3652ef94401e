"""Comparison of an exported file with the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from model.config import ClassificationGeometry
from model.images.input_config import InputConfig
from model.images.pillow_memory import packed_pixels
from model.images.preprocess import classification_input
from model.scenes.scenes import draw_scene

TOLERANCE = 1e-4
"""Largest difference of a logit that is rounding: sixty layers of float32 in another order."""

TOLERANCE_STEPS = 16
"""The same in steps between neighbouring float32 numbers at the largest logit, where it is more.

That is so from a logit of 64 on; random weights make such. Above 2048, ``TOLERANCE`` is less than a
step."""

BATCHES = (1, 2, 3)
"""Numbers of images that a file is run with."""

FIRST_SCENE = 520_000

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A file in its runtime: images (B, C, H, W) to logits (B, ...)."""


def sample_images(
    config: InputConfig, size: tuple[int, int], picture: Image.Image | None
) -> NDArray[np.float32]:
    """Prepare as many images as the largest batch has.

    Args:
        config: of the network's input.
        size: height and width of the network's input, pixels.
        picture: RGB, which becomes the first image; the others, or all, are drawn scenes.

    Returns:
        (B, C, height, width), normalised.
    """
    pictures = [Image.fromarray(draw_scene(FIRST_SCENE + n, *size).image) for n in range(3)]
    if picture is not None:
        pictures[0] = picture
    pixels = np.stack([_pixels(each, config, size) for each in pictures])
    values = pixels[..., : config.channels].transpose(0, 3, 1, 2).astype(np.float32) / 255
    mean, std = (
        np.array(each, np.float32).reshape(1, -1, 1, 1) for each in (config.mean, config.std)
    )
    return np.ascontiguousarray((values - mean) / std)


def _pixels(picture: Image.Image, config: InputConfig, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a picture to the network's size, (height, width, 3)."""
    if isinstance(config.geometry, ClassificationGeometry):
        return classification_input(picture, config.geometry, channels=config.channels)
    if config.channels == 1:
        picture = picture.convert("L").convert("RGB")
    stretched = cv2.resize(packed_pixels(picture), size[::-1], interpolation=cv2.INTER_LINEAR)
    return stretched.astype(np.uint8, copy=False)


def expected_logits(network: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the logits of a network before it is made portable, (B, ...)."""
    with torch.no_grad():
        logits: torch.Tensor = network(torch.from_numpy(images))
    return logits.numpy()


def limit_of(expected: NDArray[np.float32]) -> float:
    """Return the largest difference from these logits that is rounding."""
    step = float(np.spacing(np.abs(expected).max()))
    return max(TOLERANCE, TOLERANCE_STEPS * step)


def largest_difference(
    run: Run,
    images: NDArray[np.float32],
    expected: NDArray[np.float32],
    batches: Sequence[int] = BATCHES,
) -> float:
    """Run a file on batches of the first images, and return the largest difference of a logit.

    Raises:
        ValueError: if it is above ``limit_of(expected)``, or a logit is not finite.
    """
    found = [np.abs(run(images[:count]) - expected[:count]).max() for count in batches]
    largest = float(np.max(found))  # NaN where there is one
    limit = limit_of(expected)
    if not largest <= limit:
        raise ValueError(
            f"the file's logits differ by {largest:.1e} from the network's, more than "
            f"{limit:.0e}; the largest logit is {np.abs(expected).max():.1e}"
        )
    return largest
