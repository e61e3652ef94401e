"""Geometry of the networks' inputs, without torch: an HTTP worker runs it before the link.

Source: timm 0.6.12's evaluation transform, and timm 1.0's ``input_img_mode`` of grey networks; the
test pipelines of mmsegmentation 0.30 and mmdetection 2.28, both of which resize with mmcv 1.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from model.config import ClassificationGeometry, ScaledGeometry
from model.images.pillow_memory import packed_pixels
from model.images.resampling import resize_and_crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTREME_ASPECT_RATIO = 8
"""Ratio of the sides above which only the part of the image inside the crop is resized."""

# A worker's parallelism is its requests; OpenCV's own threads would only compete with them.
cv2.setNumThreads(1)


def classification_input(
    image: Image.Image, geometry: ClassificationGeometry, *, channels: int = 3
) -> NDArray[np.uint8]:
    """Resize the short side (antialiased) and crop the centre.

    Args:
        image: an RGB image of any size.
        geometry: the classifier's geometry.
        channels: of the network's input; for a grey network, 1, the image is made grey before its
            resize, and all three channels of the result are equal.

    Returns:
        (crop_size, crop_size, 3) uint8.
    """
    image = _in_channels(image, channels)
    width, height = resized_size(image.width, image.height, geometry.resize_short_side)
    crop = geometry.crop_size
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    if max(width, height) <= EXTREME_ASPECT_RATIO * min(width, height):
        full_box = (0, 0, image.width, image.height)
        crop_box = (left, top, left + crop, top + crop)
        return resize_and_crop(image, (width, height), full_box, crop_box, geometry.interpolation)
    # A strip of 1 by 65,000 pixels would become 242 by 16 million. Resizing only the crop's part
    # gives the same within a grey level, since Pillow keeps its corners in single precision.
    x_scale, y_scale = image.width / width, image.height / height
    box = (
        left * x_scale,
        top * y_scale,
        min((left + crop) * x_scale, image.width),
        min((top + crop) * y_scale, image.height),
    )
    return resize_and_crop(image, (crop, crop), box, (0, 0, crop, crop), geometry.interpolation)


def classified_region(
    width: int, height: int, geometry: ClassificationGeometry
) -> tuple[float, float, float, float]:
    """Return the part of an image that ``classification_input`` keeps: x, y, width and height.

    In pixels of the image, from its upper left corner.

    Args:
        width: of the image.
        height: of the image.
        geometry: the classifier's geometry.
    """
    resized = resized_size(width, height, geometry.resize_short_side)
    crop = geometry.crop_size
    scales = width / resized[0], height / resized[1]
    x, y = (round((side - crop) / 2) * scale for side, scale in zip(resized, scales, strict=True))
    return x, y, min(crop * scales[0], width - x), min(crop * scales[1], height - y)


def segmentation_input(
    image: Image.Image, geometry: ScaledGeometry, *, square: bool = False, channels: int = 3
) -> NDArray[np.uint8]:
    """Resize the image to scale (bilinear), then stretch it to whole multiples (bicubic).

    Args:
        image: an RGB image of any size.
        geometry: the segmenter's geometry.
        square: resize (bilinear) to short_side by short_side instead. That deviates from the
            published pipeline: it gives up the aspect ratio so that every batch can be full.
        channels: as in ``classification_input``.

    Returns:
        (height, width, 3) uint8, of ``segmentation_size``.
    """
    image = _in_channels(image, channels)
    size = segmentation_size(image.width, image.height, geometry, square=square)
    if square:
        return _interpolated(packed_pixels(image), size, cv2.INTER_LINEAR)
    return _interpolated(_scaled(image, geometry), size, cv2.INTER_CUBIC)


def detection_input(
    image: Image.Image, geometry: ScaledGeometry, *, channels: int = 3
) -> NDArray[np.uint8]:
    """Resize the image to scale (bilinear, not antialiased).

    The network's input has ``padded_size``, but its padding is zero after the normalisation, so it
    is not pixels and not done here.

    Args:
        image: an RGB image of any size.
        geometry: the detector's geometry.
        channels: as in ``classification_input``.

    Returns:
        (height, width, 3) uint8, of ``detection_size``.
    """
    return _scaled(_in_channels(image, channels), geometry)


def segmentation_size(
    width: int, height: int, geometry: ScaledGeometry, *, square: bool = False
) -> tuple[int, int]:
    """Return (height, width) of the segmenter's input for an image of ``width`` by ``height``."""
    if square:
        return geometry.short_side, geometry.short_side
    return padded_size(*detection_size(width, height, geometry), geometry.multiple)


def detection_size(width: int, height: int, geometry: ScaledGeometry) -> tuple[int, int]:
    """Return (height, width) of an image of ``width`` by ``height`` after its resize to scale.

    Source: mmcv 1.7.2, ``rescale_size``; there, a thin strip would vanish and raise.
    """
    scale = min(geometry.long_side / max(width, height), geometry.short_side / min(width, height))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Return (height, width), each rounded up to a multiple."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def _in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return an RGB image for a network of 3 channels or 1; as timm, grey by Pillow's weights."""
    return image if channels == 3 else image.convert("L").convert("RGB")


def _scaled(image: Image.Image, geometry: ScaledGeometry) -> NDArray[np.uint8]:
    size = detection_size(image.width, image.height, geometry)
    return _interpolated(packed_pixels(image), size, cv2.INTER_LINEAR)


def _interpolated(
    pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: int
) -> NDArray[np.uint8]:
    resized = cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)
    return resized.astype(np.uint8, copy=False)


def resized_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) after resizing the short side, as torchvision computes it."""
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side
