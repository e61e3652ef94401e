"""Samples of image files, and reference conversions of colours by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

HEIGHT, WIDTH = 24, 32


@dataclass(frozen=True)
class GoodSample:
    """A file to be answered with 200.

    Attributes:
        body: the file.
        media_type: its true media type.
        rgb: what it shows, upright, (H, W, 3).
        tolerance: largest difference of a channel; more than 0 where a codec or a colour space
            rounds.
        frames: frames or pages that it has.
    """

    body: bytes
    media_type: str
    rgb: Pixels
    tolerance: int = 0
    frames: int = 1


@dataclass(frozen=True)
class BadSample:
    """A file to be refused."""

    body: bytes
    media_type: str
    status: int
    slug: str


def scene() -> Pixels:
    """Return a smooth colour image that looks different in each of the eight orientations."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = row * 255 // (HEIGHT - 1), column * 255 // (WIDTH - 1)
    return np.stack([red, green, (255 - red + green) // 2], axis=-1).astype(np.uint8)


def ramp(levels: int) -> NDArray[np.int64]:
    """Return (H, W) numbers that run from 0 to levels - 1."""
    return np.linspace(0, levels - 1, HEIGHT * WIDTH).round().astype(int).reshape(HEIGHT, WIDTH)


def grey_rgb(grey: NDArray[Any]) -> Pixels:
    """Repeat (H, W) levels from 0 to 255 for the three channels."""
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def on_white(rgb: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    """Composite (H, W, 3) colours with (H, W) opacities from 0 to 255 on white."""
    opacity = alpha[..., None] / 255
    return np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


def upright(stored: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels as EXIF 2.32 says, table 4."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]


def palette(colours: int) -> Pixels:
    """Return (colours, 3), each colour another one."""
    step = np.arange(colours) * 255 // (colours - 1)
    return np.stack([step, 255 - step, step // 2 + 40], axis=-1).astype(np.uint8)


def from_cmyk(inks: NDArray[Any]) -> Pixels:
    """Take from white what each ink, and black, leave of it."""
    light = 255.0 - inks
    return np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)


def from_ycbcr(luma: NDArray[Any]) -> Pixels:
    """Convert as JFIF 1.02 says."""
    y, cb, cr = (luma[..., channel].astype(float) for channel in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.rint(rgb).clip(0, 255).astype(np.uint8)


def from_lab(lab: NDArray[Any]) -> Pixels:
    """Convert CIE L*a*b* under D50, L* stretched to 255, to sRGB (Bradford adaptation)."""
    lightness, a, b = lab[..., 0] * 100 / 255, lab[..., 1], lab[..., 2]
    middle = (lightness + 16) / 116
    cubes = np.stack([middle + a / 500, middle, middle - b / 200], axis=-1)
    relative = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29))
    to_linear = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    linear = np.clip((relative * [0.96422, 1.0, 0.82521]) @ to_linear.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb: Pixels = np.rint(srgb * 255).astype(np.uint8)
    return rgb
