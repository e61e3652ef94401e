"""The outlines of the demo's ten shape classes, as polygons around the origin.

Coordinates are (L, 2) float64 as x, y with y downwards; a radius of 1 is the size of the shape.
The extents differ a little between the classes, so that their areas do not give them away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """One shape: a filled polygon and an optional hole.

    Attributes:
        filled: polygon, (L, 2).
        hole: polygon inside it that stays open, (L, 2); None if there is none.
    """

    filled: Polygon
    hole: Polygon | None = None


def _regular(corners: int, radius: float = 1.0) -> Polygon:
    angles = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _arc(radius: float, first: float, last: float, centre_x: float = 0.0) -> Polygon:
    angles = np.linspace(first, last, 48)
    return np.stack([centre_x + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(rng: np.random.Generator) -> Outline:
    return Outline(_regular(72, 0.9))


def _square(rng: np.random.Generator) -> Outline:
    return Outline(_regular(4))


def _triangle(rng: np.random.Generator) -> Outline:
    return Outline(_regular(3))


def _star(rng: np.random.Generator) -> Outline:
    points = _regular(10, 1.05)
    points[1::2] *= rng.uniform(0.40, 0.50)
    return Outline(points)


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.26, 0.36)
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    turned = [quarter]
    for _ in range(3):
        quarter = np.stack([-quarter[:, 1], quarter[:, 0]], axis=1)
        turned.append(quarter)
    return Outline(np.concatenate(turned))


def _ring(rng: np.random.Generator) -> Outline:
    return Outline(_regular(72, 0.95), hole=_regular(72, 0.95 * rng.uniform(0.45, 0.65)))


def _crescent(rng: np.random.Generator) -> Outline:
    # The open disc's edge meets the full one's at the two tips.
    tip_angle = rng.uniform(0.75, 1.0)
    tip_x, tip_y = np.cos(tip_angle), np.sin(tip_angle)
    centre_x = rng.uniform(0.3, 0.5)
    inner_radius = np.hypot(tip_x - centre_x, tip_y)
    inner_angle = np.arctan2(tip_y, tip_x - centre_x)
    outer = _arc(1.0, tip_angle, 2 * np.pi - tip_angle)
    inner = _arc(inner_radius, 2 * np.pi - inner_angle, inner_angle, centre_x)
    return Outline(np.concatenate([outer, inner]) + np.array([0.2, 0.0]))


def _heart(rng: np.random.Generator) -> Outline:
    t = 2 * np.pi * np.arange(72) / 72
    across = 16 * np.sin(t) ** 3
    down = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return Outline(np.stack([across, down - 2.0], axis=1) / 16.0)


def _arrow(rng: np.random.Generator) -> Outline:
    neck, shaft, wing = rng.uniform(0.0, 0.2), rng.uniform(0.2, 0.3), rng.uniform(0.65, 0.8)
    upper = [[-1.0, -shaft], [neck, -shaft], [neck, -wing], [1.0, 0.0]]
    lower = [[neck, wing], [neck, shaft], [-1.0, shaft]]
    return Outline(np.array(upper + lower))


def _hexagon(rng: np.random.Generator) -> Outline:
    return Outline(_regular(6, 0.95))


_DRAW: dict[str, Callable[[np.random.Generator], Outline]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "hexagon": _hexagon,
}

CLASS_NAMES: tuple[str, ...] = tuple(_DRAW)


def draw_outline(label: int, rng: np.random.Generator) -> Outline:
    """Make one outline of a class, upright and of radius about 1.

    Args:
        label: class id, an index of ``CLASS_NAMES``.
        rng: draws the class's free parameters, such as the thickness of a ring.

    Returns:
        The outline, centred on the origin.
    """
    return _DRAW[CLASS_NAMES[label]](rng)


def place_outline(
    outline: Outline, radius_pixels: float, angle: float, squeeze: float, squeeze_angle: float
) -> Outline:
    """Scale, rotate and squeeze an outline.

    Args:
        outline: as ``draw_outline`` returns it.
        radius_pixels: the new radius.
        angle: rotation, radians.
        squeeze: factor of the extent along the squeezed axis, in (0, 1].
        squeeze_angle: direction of the squeezed axis, radians.

    Returns:
        The outline in pixels around the origin.
    """
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axis = np.array([np.cos(squeeze_angle), np.sin(squeeze_angle)])
    matrix = radius_pixels * (np.eye(2) - (1 - squeeze) * np.outer(axis, axis)) @ turn
    hole = None if outline.hole is None else outline.hole @ matrix.T
    return Outline(outline.filled @ matrix.T, hole)
