"""Colours of classes: apart from each other, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from model.labels.palettes import (
    BACKGROUND_COLOR,
    MAX_DISTINCT_COLORS,
    class_colors,
    oklab,
    palette_of,
)
from model.labels.tables import Color, ade20k_labels, ade20k_palette, coco_labels
from model.scenes.scenes import SEGMENT_NAMES

JUST_NOTICEABLE = 0.02
"""Distance in OKLab."""


@pytest.mark.parametrize(
    ("count", "distance"),
    [(11, 8 * JUST_NOTICEABLE), (20, 6 * JUST_NOTICEABLE), (256, 1.5 * JUST_NOTICEABLE)],
)
def test_colours_are_apart_to_the_eye(count: int, distance: float) -> None:
    assert nearest_distance(class_colors(count)) > distance


def test_all_colours_differ() -> None:
    assert len(set(class_colors(MAX_DISTINCT_COLORS))) == MAX_DISTINCT_COLORS


def test_more_classes_than_colours_start_again() -> None:
    colors = class_colors(MAX_DISTINCT_COLORS + 2)
    assert colors[-2:] == colors[:2]


@pytest.mark.parametrize("count", [0, 1, 20, 255])
def test_added_classes_leave_colours_as_they_were(count: int) -> None:
    assert class_colors(count) == class_colors(256)[:count]


def test_first_colours_are_what_they_were() -> None:
    # Screenshots, documents and users' own tables refer to them.
    assert class_colors(4) == ((51, 136, 255), (170, 238, 51), (255, 85, 68), (0, 153, 51))


def test_background_is_grey_and_far_from_every_class() -> None:
    palette = palette_of(SEGMENT_NAMES)
    assert palette[0] == BACKGROUND_COLOR
    assert palette[1:] == class_colors(len(SEGMENT_NAMES) - 1)
    assert nearest_distance(palette) > 8 * JUST_NOTICEABLE


def test_ade20k_keeps_its_own_palette() -> None:
    assert palette_of(list(ade20k_labels())) == ade20k_palette()


def test_coco_has_a_colour_for_each_class() -> None:
    assert palette_of(coco_labels()) == class_colors(80)


def test_oklab_is_its_authors() -> None:
    # Lightness, a and b of white, red and grey, from the author's page and its formulas.
    got = oklab(np.array([[255, 255, 255], [255, 0, 0], [128, 128, 128]]))
    want = [[1.0, 0.0, 0.0], [0.62796, 0.22486, 0.12585], [0.59987, 0.0, 0.0]]
    assert np.abs(got - want).max() < 1e-4  # what the page prints


def nearest_distance(colors: tuple[Color, ...]) -> float:
    """Return the distance of the two most alike, in OKLab."""
    points = oklab(np.array(colors))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return float(distances[np.triu_indices(len(colors), 1)].min())
