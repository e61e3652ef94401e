"""Tags: their size, their ink, their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.labels.tables import Color
from service.answers.drawing.tags import (
    MAX_TEXT_CHARACTERS,
    MIN_TEXT_PIXELS,
    Rectangle,
    Tag,
    contrast,
    draw_tag,
    ink_on,
    shortened,
    text_pixels,
)

READABLE_CONTRAST = 4.5
"""WCAG 2.2, level AA."""

BLUE: Color = (51, 136, 255)


@given(color=st.tuples(*[st.integers(0, 255)] * 3))
@settings(derandomize=True)
def test_ink_can_be_read_on_any_colour(color: Color) -> None:
    assert contrast(ink_on(color), color) >= READABLE_CONTRAST


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == contrast((255, 255, 255), (0, 0, 0)) == 21


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, MIN_TEXT_PIXELS), (375, 500, 13), (3000, 4000, 104), (50, 30_000, 12)],
)
def test_letters_grow_with_the_image(height: int, width: int, size: int) -> None:
    assert text_pixels(height, width) == size


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("dining table", "dining table"),
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("x" * 32, "x" * 32),
        ("great white shark, white shark, man-eater", "great white shark, white shark,…"),
    ],
)
def test_text_is_one_short_line(text: str, written: str) -> None:
    assert shortened(text) == written
    assert len(written) <= MAX_TEXT_CHARACTERS


@pytest.mark.parametrize("size", [10, 13, 104])
def test_tag_is_drawn_in_its_rectangle_alone(size: int) -> None:
    canvas, place = canvas_with_tag("person 97 %", size)
    assert (canvas[place.top : place.bottom, place.left : place.right] != 0).any()
    canvas[place.top : place.bottom, place.left : place.right] = 0
    assert (canvas == 0).all()


@pytest.mark.parametrize("size", [10, 13, 104])
def test_text_keeps_away_from_the_tags_edges(size: int) -> None:
    canvas, place = canvas_with_tag("Åpjq|", size)
    drawn = canvas[place.top : place.bottom, place.left : place.right]
    corner = size // 2
    for edge in (drawn[0, corner:-corner], drawn[-1, corner:-corner], drawn[corner:-corner, 0]):
        assert (edge == BLUE[::-1]).all()
    assert (drawn == ink_on(BLUE)[::-1]).all(axis=2).any()


def test_corners_are_round() -> None:
    canvas, place = canvas_with_tag("person", 40)
    assert (canvas[place.top, place.left] == 0).all()
    assert (canvas[place.bottom - 1, place.right - 1] == 0).all()


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        (Rectangle(10, 20, 30, 40), True),
        (Rectangle(29, 39, 50, 50), True),
        (Rectangle(30, 20, 50, 40), False),
        (Rectangle(10, 40, 30, 60), False),
        (Rectangle(0, 0, 100, 100), True),
        (Rectangle(15, 0, 16, 100), True),
    ],
)
def test_rectangles_overlap_where_they_share_a_pixel(other: Rectangle, overlaps: bool) -> None:
    one = Rectangle(10, 20, 30, 40)
    assert one.overlaps(other) == other.overlaps(one) == overlaps


@pytest.mark.parametrize(
    ("place", "moved"),
    [
        (Rectangle(5, 6, 15, 16), Rectangle(5, 6, 15, 16)),
        (Rectangle(-5, -6, 5, 4), Rectangle(0, 0, 10, 10)),
        (Rectangle(95, 45, 105, 55), Rectangle(90, 40, 100, 50)),
    ],
)
def test_rectangle_is_moved_just_into_the_image(place: Rectangle, moved: Rectangle) -> None:
    assert place.moved_within(height=50, width=100) == moved


def test_rectangle_larger_than_the_image_is_never_free() -> None:
    place = Rectangle(-30, 0, 80, 10).moved_within(height=50, width=100)
    assert not place.is_free(height=50, width=100, taken=[])


@pytest.mark.parametrize(
    ("place", "is_free"),
    [
        (Rectangle(0, 0, 10, 10), True),
        (Rectangle(90, 40, 100, 50), True),
        (Rectangle(-1, 0, 9, 10), False),
        (Rectangle(0, -1, 10, 9), False),
        (Rectangle(91, 40, 101, 50), False),
        (Rectangle(90, 41, 100, 51), False),
        (Rectangle(45, 20, 55, 30), False),
    ],
)
def test_place_is_free_within_the_image_and_beside_what_is_taken(
    place: Rectangle, is_free: bool
) -> None:
    taken = [Rectangle(50, 25, 60, 35)]
    assert place.is_free(height=50, width=100, taken=taken) == is_free


def canvas_with_tag(text: str, size: int) -> tuple[np.ndarray, Rectangle]:
    """Draw a tag in the middle of a black canvas."""
    tag = Tag(text, BLUE, size)
    width, height = tag.size
    canvas = np.zeros((3 * height, 3 * width, 3), np.uint8)
    draw_tag(canvas, tag, width, height)
    return canvas, Rectangle(width, height, 2 * width, 2 * height)
