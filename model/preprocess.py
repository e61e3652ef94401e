"""Geometry of the networks' inputs, without torch: an HTTP worker runs it before the link.

Source: overlock.md, section 4; timm 0.6.12's evaluation transform.
"""

from __future__ import annotations

from math import ceil, floor
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

BICUBIC_REACH = 2
"""Radius of the bicubic filter, in pixels of the coarser of its two images."""


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
        resized = _resized(image, (width, height), (0, 0, image.width, image.height))
        return np.asarray(resized.crop((left, top, left + crop, top + crop)))
    # A strip of 1 by 65,000 pixels would become 242 by 16 million. Resizing the crop's own part is
    # the same within a grey level, since Pillow keeps its corners in single precision.
    x_scale, y_scale = image.width / width, image.height / height
    box = (
        left * x_scale,
        top * y_scale,
        min((left + crop) * x_scale, image.width),
        min((top + crop) * y_scale, image.height),
    )
    return np.asarray(_resized(image, (crop, crop), box))


def resized_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) after resizing the short side, as torchvision computes it."""
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _resized(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    """Resize ``box`` of the image, along its rows first, then along its columns.

    Pillow does so too, but from version 13 on not for every tall image, and the order shows where
    the filter overshoots: its first result is clipped to uint8.
    """
    left, top, right, bottom = box
    reach = BICUBIC_REACH * max(1.0, (bottom - top) / size[1]) + 1
    first, last = max(0, floor(top - reach)), min(image.height, ceil(bottom + reach))
    rows = image.resize(
        (size[0], last - first), Image.Resampling.BICUBIC, (left, first, right, last)
    )
    return rows.resize(size, Image.Resampling.BICUBIC, (0, top - first, size[0], bottom - first))
