"""Drawn detections: where tags go, which detection is on top, and what stays untouched."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.images.masks import BoxedMask
from model.labels.palettes import class_colors
from model.labels.tables import coco_labels
from service.answers.drawing.detections import (
    MAX_DRAWN,
    DrawnDetection,
    detections_png,
    place_beside,
)
from service.answers.drawing.tags import Rectangle

COLORS = class_colors(80)
NAMELESS = ("",) * 80
SURE = np.ones((28, 28), np.float32)
"""A mask that fills its box."""


def found(
    class_id: int,
    score: float,
    box: tuple[float, float, float, float],
    mask: NDArray[np.float32] | None,
) -> DrawnDetection:
    parts = [] if mask is None else [BoxedMask(mask, np.array(box))]
    return DrawnDetection(class_id, score, box, parts)


boxes = st.builds(
    lambda left, top, width, height: Rectangle(left, top, left + width, top + height),
    *[st.integers(0, 150)] * 4,
)


@given(places=st.lists(st.tuples(boxes, st.integers(5, 90), st.integers(5, 30)), max_size=40))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_tags_lie_in_the_image_and_cover_no_other(
    places: list[tuple[Rectangle, int, int]],
) -> None:
    sizes = [(width, height) for _, width, height in places]
    placed = place_beside([box for box, _, _ in places], sizes, height=300, width=300)
    for place, size in zip(placed, sizes, strict=True):
        if place is not None:
            assert (place.right - place.left, place.bottom - place.top) == size
            assert place.is_free(300, 300, [])
    drawn = [place for place in placed if place is not None]
    assert not any(one.overlaps(other) for one, other in combinations(drawn, 2))


@pytest.mark.parametrize(
    ("box", "place"),
    [
        (Rectangle(50, 60, 150, 200), Rectangle(50, 40, 110, 60)),  # above
        (Rectangle(50, 10, 150, 200), Rectangle(50, 10, 110, 30)),  # inside: no room above
        (Rectangle(280, 60, 300, 200), Rectangle(240, 40, 300, 60)),  # kept within the image
    ],
)
def test_tag_of_a_single_box(box: Rectangle, place: Rectangle) -> None:
    assert place_beside([box], [(60, 20)], height=300, width=300) == [place]


def test_first_box_has_the_first_choice_and_later_ones_give_way() -> None:
    box = Rectangle(50, 60, 150, 200)
    first, second, third = place_beside([box] * 3, [(90, 20)] * 3, height=300, width=300)
    assert first == Rectangle(50, 40, 140, 60)
    assert second == Rectangle(50, 60, 140, 80)
    assert third == Rectangle(50, 200, 140, 220)


def test_tag_without_room_is_left_out() -> None:
    box = Rectangle(0, 0, 50, 25)
    assert place_beside([box] * 2, [(50, 20)] * 2, height=25, width=50)[1] is None
    assert place_beside([box], [(51, 20)], height=25, width=50) == [None]


@pytest.mark.parametrize("has_mask", [False, True])
def test_pixels_outside_boxes_and_tags_stay(has_mask: bool) -> None:
    image = noise(400, 300)
    detection = found(3, 0.9, (50.0, 100.0, 200.0, 220.0), SURE if has_mask else None)
    got = drawn(image, [detection])
    outside = np.ones((300, 400), bool)
    outside[100:220, 50:200] = False
    outside[60:100, 50:250] = False  # the tag above
    assert np.array_equal(got[outside], np.asarray(image)[outside])
    assert (got[100:220, 50:200] != np.asarray(image)[100:220, 50:200]).any()


def test_no_detection_leaves_the_image() -> None:
    image = noise(40, 30)
    assert np.array_equal(drawn(image, []), np.asarray(image))


def test_box_is_a_frame_in_its_classs_colour() -> None:
    image = Image.new("RGB", (400, 300))
    got = drawn(image, [found(3, 0.9, (50.4, 100.4, 199.6, 219.6), None)], NAMELESS)
    frame = np.zeros((300, 400), bool)
    frame[100:220, 50:200] = True
    frame[101:219, 51:199] = False
    assert (got[frame] == COLORS[3]).all(axis=1).mean() > 0.98  # a tag covers the rest
    assert (got[130:200, 60:190] == 0).all()


def test_mask_is_tinted_and_outlined_in_its_classs_colour() -> None:
    mask = np.zeros((28, 28), np.float32)
    mask[7:21, 7:21] = 1  # of four pixels each: rows 128 to 183, columns 78 to 133
    image = Image.new("RGB", (400, 300))
    got = drawn(image, [found(3, 0.9, (50.0, 100.0, 162.0, 212.0), mask)])
    inside = got[130:182, 80:132].astype(int)
    assert np.abs(inside - np.array(COLORS[3]) / 2).max() <= 0.5  # rounded
    assert (got[128, 80:132] == COLORS[3]).all()
    assert (got[183, 80:132] == COLORS[3]).all()
    assert (got[127, 80:132] == 0).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_best_detection_is_on_top(order: tuple[int, int]) -> None:
    box = (50.0, 50.0, 150.0, 150.0)
    detections = [found(1, 0.9, box, SURE), found(2, 0.4, box, SURE)]
    got = drawn(Image.new("RGB", (400, 300)), [detections[place] for place in order])
    assert (got[149, 55:145] == COLORS[1]).all()
    assert np.abs(got[120, 100].astype(int) - np.array(COLORS[1]) / 2).max() <= 0.5  # rounded


def test_tag_tells_the_score_in_per_cent() -> None:
    image = Image.new("RGB", (400, 300))
    box = (50.0, 100.0, 200.0, 220.0)
    one, same, other = (
        drawn(image, [found(3, score, box, None)]) for score in (0.971, 0.969, 0.94)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 10.0, 10.0, 10.0),
        (-20.0, -20.0, 500.0, 500.0),
        (99.0, 79.0, 100.0, 80.0),
        (200.0, 200.0, 210.0, 210.0),
        (0.2, 0.2, 0.4, 0.4),
    ],
)
def test_boxes_at_the_edge_and_beyond_are_drawn(box: tuple[float, float, float, float]) -> None:
    assert drawn(noise(100, 80), [found(0, 0.5, box, None)]).shape == (80, 100, 3)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (700, 1), (3, 2000), (32, 32)])
def test_small_and_thin_images_are_drawn(width: int, height: int) -> None:
    detection = found(0, 0.5, (0.0, 0.0, width, height), SURE)
    got = drawn(Image.new("RGB", (width, height)), [detection])
    assert (got != 0).any(axis=2).all()


def test_of_too_many_the_best_are_drawn() -> None:
    box = (10.0, 10.0, 60.0, 60.0)
    worst = found(1, 0.1, (70.0, 10.0, 90.0, 60.0), None)
    detections = [worst] + [found(0, 0.5, box, None)] * MAX_DRAWN
    got = drawn(Image.new("RGB", (100, 80)), detections, NAMELESS)
    assert (got[:, 70:] == 0).all()
    assert (got[59, 10:60] == COLORS[0]).all()


def test_masks_of_the_images_size_take_little_more_than_one_of_them() -> None:
    image = Image.new("RGB", (4000, 3000))
    detections = [found(0, 0.5, (0.0, 0.0, 4000.0, 3000.0), SURE)] * 10
    tracemalloc.start()
    try:
        file = detections_png(image, detections, COLORS, coco_labels(), raise_if_cancelled=nothing)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    canvas_bytes, owners_bytes, pasted_bytes = 36_000_000, 12_000_000, 12_000_000
    assert peak_bytes < canvas_bytes + owners_bytes + pasted_bytes + 2 * len(file) + 8 * 2**20


def test_a_drawing_that_nobody_wants_ends_before_its_next_mask() -> None:
    asked = 0

    def raise_if_cancelled() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise InterruptedError

    image = Image.new("RGB", (40, 30))
    detections = [found(0, 0.5, (0.0, 0.0, 40.0, 30.0), SURE)] * 10
    with pytest.raises(InterruptedError):
        detections_png(
            image, detections, COLORS, coco_labels(), raise_if_cancelled=raise_if_cancelled
        )
    assert asked == 3


def nothing() -> None:
    """Go on."""


def drawn(
    image: Image.Image,
    detections: list[DrawnDetection],
    labels: tuple[str, ...] = coco_labels(),
) -> np.ndarray:
    """Draw, and read the file back."""
    file = detections_png(
        image, detections, class_colors(len(labels)), labels, raise_if_cancelled=nothing
    )
    with Image.open(BytesIO(file)) as result:
        assert (result.format, result.mode) == ("PNG", "RGB")
        return np.asarray(result)


def noise(width: int, height: int) -> Image.Image:
    """Return random pixels, the same ones for the same size."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
