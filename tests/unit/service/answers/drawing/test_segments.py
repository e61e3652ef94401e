"""The overlay of a label map: where names go, and what else is drawn."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.labels.palettes import palette_of
from model.labels.tables import ade20k_labels, ade20k_palette
from model.scenes.scenes import SEGMENT_NAMES, draw_scene
from service.answers.drawing.segments import MAX_TAGS, PlacedTag, overlay_png, place_tags


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    grid=st.integers(1, 12),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_tags_lie_in_the_image_and_cover_no_other(
    seed: int, height: int, width: int, grid: int
) -> None:
    label_map = patches(seed, height, width, grid)
    sizes = {class_id: (40 + 20 * class_id, 17) for class_id in range(4)}
    placed = place_tags(label_map, sizes)
    assert len(placed) <= MAX_TAGS
    for tag in placed:
        place = tag.place
        assert (place.right - place.left, place.bottom - place.top) == sizes[tag.class_id]
        assert place.is_free(height, width, [])
    assert not any(one.place.overlaps(other.place) for one, other in combinations(placed, 2))


@pytest.mark.parametrize("scale", [1, 3, 11])
def test_tag_lies_inside_a_region_with_room_for_it(scale: int) -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[50:80, 10:110] = 1
    label_map[100:290, 200:390] = 2
    label_map = np.kron(label_map, np.ones((scale, scale), np.uint8))
    placed = place_tags(label_map, dict.fromkeys(range(3), (60 * scale, 15 * scale)))
    assert [tag.class_id for tag in placed] == [0, 2, 1]  # the largest first
    assert all(share_inside(label_map, tag) == 1 for tag in placed)


def test_parts_of_a_class_are_named_each() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[50:100, 10:150] = 1
    label_map[200:250, 10:150] = 1
    placed = place_tags(label_map, dict.fromkeys(range(2), (60, 15)))
    assert sorted(tag.class_id for tag in placed) == [0, 1, 1]


def test_tag_of_a_region_too_thin_lies_over_its_middle() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[20:280, 200:210] = 1
    thin = next(t for t in place_tags(label_map, {0: (60, 15), 1: (60, 15)}) if t.class_id == 1)
    assert thin.place.left < 200
    assert thin.place.right > 210
    assert 0 < share_inside(label_map, thin) < 1


def test_tag_of_a_strip_along_the_border_stays_in_the_image() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[:10] = 1
    placed = place_tags(label_map, dict.fromkeys(range(2), (60, 30)))
    assert [tag.place.top for tag in placed if tag.class_id == 1] == [0]


def test_region_smaller_than_its_tag_is_not_covered_by_it() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[100:130, 100:130] = 1
    placed = place_tags(label_map, dict.fromkeys(range(2), (100, 20)))
    assert [tag.class_id for tag in placed] == [0]


def test_speck_is_not_named() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    label_map[100:120, 100:120] = 1
    placed = place_tags(label_map, dict.fromkeys(range(2), (10, 10)))
    assert [tag.class_id for tag in placed] == [0]


def test_overlay_shows_each_class_in_its_colour() -> None:
    label_map = patches(0, 300, 400, 3)
    image = Image.new("RGB", (400, 300))
    palette = palette_of(SEGMENT_NAMES)
    got = decoded(overlay_png(image, label_map, palette, SEGMENT_NAMES, raise_if_cancelled=nothing))
    tint = (np.array(palette)[label_map] + 1) // 2
    # What is not tint is outlines and names.
    assert (np.abs(got.astype(int) - tint) <= 1).all(axis=2).mean() > 0.85


def test_overlay_names_its_regions() -> None:
    label_map = np.zeros((300, 400), np.uint8)
    image = Image.new("RGB", (400, 300))
    plain, named = (
        decoded(
            overlay_png(image, label_map, [(200, 100, 50)], [label], raise_if_cancelled=nothing)
        )
        for label in ("", "sky")
    )
    assert ((named != plain).any(axis=2)).sum() > 100


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (2000, 3), (32, 32), (64, 64)])
def test_small_and_thin_images_are_drawn(height: int, width: int) -> None:
    label_map = patches(1, height, width, 2)
    image = Image.new("RGB", (width, height))
    got = decoded(
        overlay_png(image, label_map, ade20k_palette(), ade20k_labels(), raise_if_cancelled=nothing)
    )
    assert got.shape == (height, width, 3)
    assert (got != 0).any(axis=2).all()


def test_overlay_is_the_same_each_time() -> None:
    scene = draw_scene(5, 96, 128)
    palette = palette_of(SEGMENT_NAMES)
    one, other = (
        overlay_png(
            Image.fromarray(scene.image),
            scene.label_map,
            palette,
            SEGMENT_NAMES,
            raise_if_cancelled=nothing,
        )
        for _ in range(2)
    )
    assert one == other


def patches(seed: int, height: int, width: int, grid: int) -> np.ndarray:
    """Return a label map of rectangles, classes 0 to 3."""
    tiles = np.random.default_rng(seed).integers(0, 4, (grid, grid), dtype=np.uint8)
    rows, columns = np.arange(height) * grid // height, np.arange(width) * grid // width
    return tiles[rows[:, None], columns]


def share_inside(label_map: np.ndarray, tag: PlacedTag) -> float:
    """Return the part of a tag that is on its class."""
    place = tag.place
    covered = label_map[place.top : place.bottom, place.left : place.right]
    return float((covered == tag.class_id).mean())


def decoded(file: bytes) -> np.ndarray:
    """Read an overlay back."""
    with Image.open(BytesIO(file)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def test_an_overlay_that_nobody_wants_is_not_drawn() -> None:
    def stop() -> None:
        raise InterruptedError

    image, label_map = Image.new("RGB", (40, 30)), np.zeros((30, 40), np.uint8)
    with pytest.raises(InterruptedError):
        overlay_png(image, label_map, [(0, 0, 0)], ["all"], raise_if_cancelled=stop)


def nothing() -> None:
    """Go on."""
