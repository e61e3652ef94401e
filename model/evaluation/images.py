"""Read the files of a data set; errors name the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Suffixes of images: torchvision's list."""


class EvaluationError(ValueError):
    """An evaluation cannot be done; the message says why, in one line."""


def read_image(path: Path, *, upright: bool = True) -> Image.Image:
    """Decode an image to RGB.

    Args:
        path: of the file.
        upright: whether to apply the EXIF orientation, as OpenCV (and so the references of
            segmentation and detection) does; timm's ImageNet evaluation does not.

    Raises:
        EvaluationError: if the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EvaluationError(f"The image {path} cannot be read: {error}") from error


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Decode an annotation whose pixels are class ids, (H, W) uint8.

    Raises:
        EvaluationError: if the file is missing, damaged or no 8-bit image of one channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in {"L", "P"}:
                raise EvaluationError(
                    f"The annotation {path} is no 8-bit image of one channel (Pillow calls it "
                    f"{image.mode})."
                )
            return np.array(image)
    except EvaluationError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EvaluationError(f"The annotation {path} cannot be read: {error}") from error


def list_images(folder: Path) -> list[Path]:
    """Return a folder's images in the order of their names.

    Raises:
        EvaluationError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise EvaluationError(f"There is no folder {folder}.")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise EvaluationError(f"There are no images in {folder}.")
    return images
