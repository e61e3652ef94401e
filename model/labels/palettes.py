"""One colour per class: the data set's own palette, or colours far apart for other classes.

"Far apart" is measured in OKLab, where equal distances look about equally different; 0.02 is
about the smallest visible difference.

Source: B. Ottosson, "A perceptual color space for image processing" (2020),
https://bottosson.github.io/posts/oklab/.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from model.labels.tables import Color, ade20k_labels, ade20k_palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND_LABEL = "background"

BACKGROUND_COLOR: Color = (64, 64, 64)
"""Colour of the background class: neutral and dark, so that the others stand out."""

MAX_DISTINCT_COLORS = 512
"""Maximum number of different colours; with more classes, they repeat."""

_FIRST_COLOR: Color = (51, 136, 255)
# Levels of a candidate's channels. Of these 4096 colours, half are too dark, too bright, too grey
# or too garish.
_CHANNEL_LEVELS = np.arange(0, 256, 17)
_LIGHTNESS = (0.5, 0.88)
_CHROMA = (0.09, 0.22)

_RGB_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def palette_of(labels: Sequence[str]) -> tuple[Color, ...]:
    """Return the colours that a list of classes is drawn in.

    Args:
        labels: class names in the order of the class ids.

    Returns:
        ADE20K's own palette for its classes; otherwise ``class_colors``, with a neutral grey for a
        class named "background".
    """
    if tuple(labels) == ade20k_labels():
        return ade20k_palette()
    colors = iter(class_colors(len(labels)))
    return tuple(
        BACKGROUND_COLOR if label == BACKGROUND_LABEL else next(colors) for label in labels
    )


def class_colors(num_classes: int) -> tuple[Color, ...]:
    """Return vivid colours that are as far apart as their number allows.

    A class keeps its colour when others are added: a shorter list is the start of a longer one.
    """
    colors = _distinct_colors(min(num_classes, MAX_DISTINCT_COLORS))
    return tuple(colors[class_id % len(colors)] for class_id in range(num_classes))


def oklab(colors: NDArray[np.generic]) -> NDArray[np.float64]:
    """Convert sRGB colours, (N, 3) from 0 to 255, to OKLab's lightness, a and b, (N, 3)."""
    encoded = colors.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones: NDArray[np.float64] = np.cbrt(linear @ _RGB_TO_CONES.T)
    lab: NDArray[np.float64] = cones @ _CONES_TO_LAB.T
    return lab


@cache
def _distinct_colors(count: int) -> tuple[Color, ...]:
    """Choose colours one by one, each farthest from those before it and from the background."""
    candidates = _candidates()
    points = oklab(candidates)
    distances = np.linalg.norm(points - oklab(np.array([BACKGROUND_COLOR])), axis=1)
    chosen = int(np.linalg.norm(points - oklab(np.array([_FIRST_COLOR])), axis=1).argmin())
    colors: list[Color] = []
    for _ in range(count):
        red, green, blue = candidates[chosen].tolist()
        colors.append((red, green, blue))
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen], axis=1))
        chosen = int(distances.argmax())
    return tuple(colors)


def _candidates() -> NDArray[np.int64]:
    grid = np.stack(np.meshgrid(*[_CHANNEL_LEVELS] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = oklab(grid).T
    return grid[_within(lightness, _LIGHTNESS) & _within(np.hypot(a, b), _CHROMA)]


def _within(values: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (values >= bounds[0]) & (values <= bounds[1])
