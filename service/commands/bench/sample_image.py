"""A drawn image that costs about as much to decode as a photograph."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 640, 480
PATCHES = (12, 16)
"""Rows and columns of random colours that are blurred into one another."""

GRAIN = 8.0
"""Standard deviation of the noise on top, grey levels; it makes a file of about 88 KB."""

QUALITY = 85


def draw_photograph(random: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Draw an image and return it as a JPEG file."""
    patches = Image.fromarray(random.integers(0, 256, (*PATCHES, 3), np.uint8))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = random.normal(0.0, GRAIN, (height, width, 1)).astype(np.float32)
    file = BytesIO()
    pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
