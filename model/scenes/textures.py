"""The surfaces of the demo's scenes: patterns for backgrounds and shapes, and colours for them.

A pattern is a uint8 field, (H, W), whose values run from one colour of a pair (0) to the other
(255); ``paint`` looks the colours up. That is one table look-up a pixel, and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.uint8]
ColorPair = NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])
_CANDIDATES = 48

_LEVELS = np.arange(256)
_SINE = np.round(127.5 + 127.5 * np.sin(2 * np.pi * _LEVELS / 256)).astype(np.uint8)
# A square wave with short ramps, so that stripes have soft edges.
_STRIPE = np.clip((np.abs(_LEVELS - 128.0) - 64) * 12 + 128, 0, 255).astype(np.uint8)
_SPOT = np.clip((_LEVELS - 150.0) * 6, 0, 255).astype(np.uint8)


def _look_up(curve: Field, position: NDArray[Any]) -> Field:
    values: Field = curve[position.astype(np.int64) & 255]
    return values


def _phase(rng: np.random.Generator, height: int, width: int, period: float) -> NDArray[np.int64]:
    angle = rng.uniform(0, 2 * np.pi)
    per_row, per_column = 256 * np.sin(angle) / period, 256 * np.cos(angle) / period
    rows = np.arange(height) * per_row + rng.uniform(0, 256)
    columns = np.arange(width) * per_column
    phase: NDArray[np.int64] = rows.astype(np.int64)[:, None] + columns.astype(np.int64)[None, :]
    return phase


def _clouds(
    rng: np.random.Generator, height: int, width: int, cell: float, resample: Image.Resampling
) -> Field:
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    coarse = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), resample))


def _plain(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    return np.full((height, width), rng.integers(0, 256), dtype=np.uint8)


def _gradient(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    ramp = _phase(rng, height, width, period=float(height + width))
    low, high = int(ramp.min()), int(ramp.max())
    return ((ramp - low) * 255 // max(high - low, 1)).astype(np.uint8)


def _waves(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    phase = _phase(rng, height, width, scale * rng.uniform(0.12, 0.4))
    bend = _look_up(_SINE, np.arange(width) * 256 / (scale * rng.uniform(0.3, 0.9)))
    phase += bend.astype(np.int64)[None, :] * rng.integers(0, 3) // 2
    return _look_up(_SINE, phase)


def _stripes(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    return _look_up(_STRIPE, _phase(rng, height, width, scale * rng.uniform(0.06, 0.16)))


def _checker(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    period = scale * rng.uniform(0.10, 0.22)
    rows = _look_up(_STRIPE, np.arange(height) * 256 / period + rng.uniform(0, 256))
    columns = _look_up(_STRIPE, np.arange(width) * 256 / period)
    # An XOR of stripes with soft edges; a bitwise one would tear within the ramps.
    return np.where(columns > 127, 255 - rows[:, None], rows[:, None])


def _speckle(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    cell = scale * rng.uniform(0.02, 0.05)
    return _look_up(_SPOT, _clouds(rng, height, width, cell, Image.Resampling.BILINEAR))


def _noise(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    broad = _clouds(rng, height, width, scale * rng.uniform(0.2, 0.4), Image.Resampling.BICUBIC)
    fine = _clouds(rng, height, width, scale * rng.uniform(0.03, 0.1), Image.Resampling.BILINEAR)
    return broad // 3 * 2 + fine // 3


def _blocks(rng: np.random.Generator, height: int, width: int, scale: float) -> Field:
    return _clouds(rng, height, width, scale * rng.uniform(0.1, 0.3), Image.Resampling.NEAREST)


_Pattern = Callable[[np.random.Generator, int, int, float], Field]
_BACKGROUNDS: tuple[_Pattern, ...] = (_plain, _gradient, _waves, _noise, _blocks)
_SURFACES: tuple[_Pattern, ...] = (_plain, _plain, _stripes, _gradient, _speckle, _checker)


def background_field(rng: np.random.Generator, height: int, width: int) -> Field:
    """Draw the pattern of a background: plain, gradient, waves, noise or blocks.

    Args:
        rng: chooses the pattern and its parameters.
        height: rows, pixels.
        width: columns, pixels.

    Returns:
        Colour positions, uint8 (H, W).
    """
    pattern = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
    return pattern(rng, height, width, float(min(height, width)))


def surface_field(rng: np.random.Generator, height: int, width: int, radius: float) -> Field:
    """Draw the pattern of a shape: plain, stripes, gradient, speckle or checker.

    Args:
        rng: chooses the pattern and its parameters.
        height: rows, pixels.
        width: columns, pixels.
        radius: of the shape, pixels; the pattern's scale follows it.

    Returns:
        Colour positions, uint8 (H, W).
    """
    pattern = _SURFACES[rng.integers(len(_SURFACES))]
    return pattern(rng, height, width, max(2.5 * radius, 48.0))


def paint(field: Field, pair: ColorPair) -> NDArray[np.uint8]:
    """Look up the colours of a pattern.

    Args:
        field: colour positions, uint8 (H, W).
        pair: the colours of position 0 and 255, (2, 3) in 0 to 255.

    Returns:
        RGB, uint8 (H, W, 3).
    """
    share = _LEVELS[:, None] / 255
    palette = np.round(pair[0] * (1 - share) + pair[1] * share).astype(np.uint8)
    image = Image.fromarray(field).convert("P")
    image.putpalette(palette.tobytes())
    return np.asarray(image.convert("RGB"))


def draw_colors(
    rng: np.random.Generator, avoid: ColorPair | None, contrast: float, spread: float
) -> ColorPair:
    """Draw a pair of colours that stands off from another one, over both pairs' whole range.

    Args:
        rng: draws the candidates.
        avoid: the other pair, (2, 3) in 0 to 255; None if there is none.
        contrast: minimum distance between any mix of the one pair and any of the other; if no
            candidate has it, the one with the largest distance is taken.
        spread: largest distance of the two colours by channel.

    Returns:
        The colours, (2, 3) in 0 to 255.
    """
    first = rng.uniform(0, 255, (_CANDIDATES, 1, 3))
    gray = first.mean(axis=-1, keepdims=True)
    first = gray + (first - gray) * rng.uniform(0.2, 1.0, (_CANDIDATES, 1, 1))
    second = np.clip(first + rng.uniform(-spread, spread, (_CANDIDATES, 1, 3)), 0, 255)
    pairs = np.concatenate([first, second], axis=1)
    best = 0
    if avoid is not None:
        gaps = _range_gaps(pairs, avoid)
        enough = np.flatnonzero(gaps >= contrast)
        best = int(enough[0] if len(enough) else gaps.argmax())
    chosen: ColorPair = pairs[best]
    return chosen


def _range_gaps(pairs: NDArray[np.float64], other: ColorPair) -> NDArray[np.float64]:
    """Return the least distance of any mix of each pair, (N, 2, 3), to any of the other, (N,)."""
    shares = np.linspace(0, 1, 4)[:, None]
    mixes = pairs[:, :1] * (1 - shares) + pairs[:, 1:] * shares
    other_mixes = other[0] * (1 - shares) + other[1] * shares
    differences = mixes[:, :, None, :] - other_mixes
    # Edges are seen by brightness first, so colour alone counts for half.
    gaps = np.abs(differences @ _LUMA) + 0.5 * np.abs(differences).max(axis=-1)
    nearest: NDArray[np.float64] = gaps.min(axis=(1, 2))
    return nearest
