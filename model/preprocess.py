"""Geometry of the networks' inputs, without torch: an HTTP worker runs it before the link.

Source: overlock.md, section 4; timm 0.6.12's evaluation transform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.config import ClassificationGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of the training images' RGB channels, of values from 0 to 1."""

IMAGE_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""

EXTREME_ASPECT_RATIO = 8
"""Above this, only the part of the image that the crop shows is resized."""


def classification_input(image: Image.Image, geometry: ClassificationGeometry) -> NDArray[np.uint8]:
    """Resize the short side (bicubic, antialiased) and crop the centre.

    Args:
        image: an RGB image of any size.
        geometry: the classifier's.

    Returns:
        (crop_size, crop_size, 3) uint8.
    """
    width, height = resized_size(image.width, image.height, geometry.resize_short_side)
    crop = geometry.crop_size
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    if max(width, height) <= EXTREME_ASPECT_RATIO * min(width, height):
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(resized.crop((left, top, left + crop, top + crop)))
    # A strip of 1 by 65,000 pixels would become 242 by 16 million. Resizing the crop's own part
    # is the same up to the last bit, since Pillow keeps its corners in single precision.
    x_scale, y_scale = image.width / width, image.height / height
    box = (
        left * x_scale,
        top * y_scale,
        min((left + crop) * x_scale, image.width),
        min((top + crop) * y_scale, image.height),
    )
    return np.asarray(image.resize((crop, crop), Image.Resampling.BICUBIC, box))


def resized_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) after resizing the short side, as torchvision computes it."""
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side
