"""Draw the demo's images with their ground truth: one main shape on a busy background.

A small but honest vision problem: the main shape has any place, size, rotation, colour and
surface; there may be other, smaller shapes; lines and dots belong to no class. The module is
torch-free and needs no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from model.scenes import textures
from model.scenes.outlines import CLASS_NAMES, draw_outline, place_outline

__all__ = ["CLASS_NAMES", "SEGMENT_NAMES", "Scene", "draw_scene"]

SEGMENT_NAMES: tuple[str, ...] = ("background", *CLASS_NAMES)

MIN_SIDE_PIXELS = 64

_SUPERSAMPLING = 4
_MAIN_RADIUS = (0.2, 0.44)  # of the short side
_COMPANION_RADIUS = (0.075, 0.13)  # of the short side
_COMPANION_MAX_SHARE = 0.45  # of the main shape's radius
_MAX_COMPANIONS = 2
# A random byte looks up a normally distributed number: much faster than drawing one a pixel.
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])


@dataclass(frozen=True)
class Scene:
    """A drawn image and its ground truth.

    Attributes:
        image: RGB, uint8 (H, W, 3).
        label: class id of the main shape, an index of ``CLASS_NAMES``.
        label_map: uint8 (H, W); 0 is background, 1 + class id a shape: an index of
            ``SEGMENT_NAMES``.
    """

    image: NDArray[np.uint8]
    label: int
    label_map: NDArray[np.uint8]


@dataclass(frozen=True)
class _Spot:
    """A disc that bounds a shape, pixels."""

    row: float
    column: float
    radius: float


@dataclass(frozen=True)
class _Canvas:
    """A scene while it is drawn; both arrays change in place."""

    image: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    background_colors: textures.ColorPair


def draw_scene(seed: int, height: int = 224, width: int = 224, label: int | None = None) -> Scene:
    """Draw one scene, a pure function of its arguments.

    Args:
        seed: determines the scene, 0 or more.
        height: rows, pixels, 64 or more.
        width: columns, pixels, 64 or more.
        label: class id of the main shape; None lets the seed choose.

    Returns:
        The image with its ground truth.

    Raises:
        ValueError: If a side is too short or there is no such class.
    """
    if min(height, width) < MIN_SIDE_PIXELS:
        raise ValueError(f"A side has {min(height, width)} pixels, below {MIN_SIDE_PIXELS}.")
    if label is not None and not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f"Class {label} is not one of 0 to {len(CLASS_NAMES) - 1}.")
    rng = np.random.default_rng(seed)
    chosen = int(rng.integers(len(CLASS_NAMES)))
    main_label = chosen if label is None else label

    colors = textures.draw_colors(rng, avoid=None, contrast=0, spread=80)
    background = textures.paint(textures.background_field(rng, height, width), colors)
    background = _scatter_clutter(rng, background)
    canvas = _Canvas(background, np.zeros((height, width), dtype=np.uint8), colors)
    main_spot = _choose_main_spot(rng, height, width)
    for spot in _choose_companion_spots(rng, height, width, main_spot):
        _draw_shape(rng, canvas, int(rng.integers(len(CLASS_NAMES))), spot)
    _draw_shape(rng, canvas, main_label, main_spot)
    return Scene(_photograph(rng, canvas.image), main_label, canvas.label_map)


def _choose_main_spot(rng: np.random.Generator, height: int, width: int) -> _Spot:
    short_side = min(height, width)
    radius = short_side * rng.uniform(*_MAIN_RADIUS)
    # A shape's corner may reach a little beyond the border, as objects in photographs do.
    margin = 0.95 * radius
    return _Spot(rng.uniform(margin, height - margin), rng.uniform(margin, width - margin), radius)


def _choose_companion_spots(
    rng: np.random.Generator, height: int, width: int, main_spot: _Spot
) -> list[_Spot]:
    short_side = min(height, width)
    taken = [main_spot]
    for _ in range(2 * int(rng.integers(_MAX_COMPANIONS + 1))):
        radius = min(
            short_side * rng.uniform(*_COMPANION_RADIUS), _COMPANION_MAX_SHARE * main_spot.radius
        )
        spot = _Spot(
            rng.uniform(radius, height - radius), rng.uniform(radius, width - radius), radius
        )
        gaps = [np.hypot(spot.row - o.row, spot.column - o.column) - o.radius for o in taken]
        if len(taken) <= _MAX_COMPANIONS and min(gaps) > radius:
            taken.append(spot)
    return taken[1:]


def _scatter_clutter(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    unit = min(height, width) / 224
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    lines, dots = int(rng.integers(7)), int(rng.integers(25))
    colors = [tuple(color) for color in rng.integers(0, 256, (lines + dots, 3)).tolist()]
    ends = rng.integers(0, (width, height, width, height), (lines, 4)).tolist()
    thickness = np.maximum(1, np.round(unit * rng.uniform(0.5, 2.5, lines))).astype(int).tolist()
    for line, color in enumerate(colors[:lines]):
        draw.line(ends[line], fill=color, width=thickness[line])
    centres = rng.uniform(0, (width, height), (dots, 2))
    extents = unit * rng.uniform(0.8, 4.0, (dots, 2))
    boxes = np.concatenate([centres - extents, centres + extents], axis=1).tolist()
    for dot, color in enumerate(colors[lines:]):
        draw.ellipse(boxes[dot], fill=color)
    return np.array(canvas)


def _draw_shape(rng: np.random.Generator, canvas: _Canvas, label: int, spot: _Spot) -> None:
    outline = place_outline(
        draw_outline(label, rng),
        radius_pixels=spot.radius * _SUPERSAMPLING,
        angle=rng.uniform(0, 2 * np.pi),
        squeeze=rng.uniform(0.82, 1.0),
        squeeze_angle=rng.uniform(0, np.pi),
    )
    height, width = canvas.label_map.shape
    reach = 1.25 * spot.radius + 2
    top, left = max(0, int(spot.row - reach)), max(0, int(spot.column - reach))
    bottom, right = min(height, int(spot.row + reach)), min(width, int(spot.column + reach))
    shift = _SUPERSAMPLING * np.array([spot.column - left, spot.row - top])
    size = (_SUPERSAMPLING * (right - left), _SUPERSAMPLING * (bottom - top))
    coverage = Image.new("L", size)
    draw = ImageDraw.Draw(coverage)
    draw.polygon(np.round(outline.filled + shift).ravel().tolist(), fill=255)
    if outline.hole is not None:
        draw.polygon(np.round(outline.hole + shift).ravel().tolist(), fill=0)
    coverage = coverage.reduce(_SUPERSAMPLING)

    colors = textures.draw_colors(rng, canvas.background_colors, contrast=90, spread=70)
    surface = textures.surface_field(rng, bottom - top, right - left, spot.radius)
    patch = canvas.image[top:bottom, left:right]
    shape = Image.fromarray(textures.paint(surface, colors))
    patch[:] = np.asarray(Image.composite(shape, Image.fromarray(patch), coverage))
    canvas.label_map[top:bottom, left:right][np.asarray(coverage) >= 128] = 1 + label


def _photograph(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Simulate a photograph: uneven light, exposure, a soft lens now and then, sensor noise."""
    height, width = image.shape[:2]
    if rng.random() < 0.3:
        blur_pixels = min(height, width) / 224 * rng.uniform(0.5, 1.5)
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(blur_pixels)))
    down = 1 + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, height)
    across = 1 + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, width)
    light = (down[:, None] * across).astype(np.float32)[:, :, None]
    contrast = rng.uniform(0.65, 1.1)
    tint = (rng.uniform(0.92, 1.08, 3) * contrast).astype(np.float32)
    offset = rng.uniform(-20, 20) + 128 * (1 - contrast) + 0.5
    noise_level = rng.uniform(0, 14)
    noise = (_NORMAL_QUANTILES * noise_level + offset).astype(np.float32)
    photo = image * (light * tint)
    photo += noise[_random_bytes(rng, photo.size)].reshape(photo.shape)
    return np.clip(photo, 0, 255, out=photo).astype(np.uint8)


def _random_bytes(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    words = rng.integers(0, 2**64, (count + 7) // 8, dtype=np.uint64)
    return words.astype("<u8").view(np.uint8)[:count]
