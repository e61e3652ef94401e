"""Pasting against a sampler written from its definition; run lengths against pycocotools."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from model.images import masks
from model.images.masks import PastedMask, RunLengths, paste_mask, rle_of_classes, rle_of_region

Box = tuple[float, float, float, float]

HEIGHT, WIDTH = 60, 80


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 12.0, 50.0, 40.0),
        (10.3, 11.8, 50.9, 40.1),
        (0.0, 0.0, 80.0, 60.0),
        (-20.5, -7.25, 40.0, 90.0),  # over three borders
        (30.2, 20.7, 31.9, 58.0),  # narrower than a cell is wide
        (30.2, 20.7, 30.4, 20.9),  # within a pixel, beside its centre
        (30.4, 20.4, 30.6, 20.6),  # within a pixel, around its centre
        (10.5, 12.5, 38.5, 40.5),  # pixel centres fall on the box's edges
    ],
)
def test_pasted_mask_is_bilinear_at_pixel_centres(box: Box) -> None:
    mask = probabilities(0)
    want = bilinear_everywhere(mask, box)
    got = whole(paste_mask(mask, np.array(box), HEIGHT, WIDTH))
    # Of float32 the threshold may fall to either side; nothing else may.
    decided = np.abs(want - 0.5) > 1e-5
    assert decided.mean() > 0.99
    assert np.array_equal(got[decided], want[decided] >= 0.5)


@pytest.mark.slow
@given(
    seed=st.integers(0, 1000),
    edges=st.tuples(*[st.floats(-30, 110, width=32)] * 4),
    cells=st.tuples(st.integers(1, 28), st.integers(1, 28)),
)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_box_and_mask_is_pasted_as_defined(
    seed: int, edges: Box, cells: tuple[int, int]
) -> None:
    x1, x2 = sorted(edges[:2])
    y1, y2 = sorted(edges[2:])
    box = (x1, y1, x2, y2)
    mask = probabilities(seed, cells)
    got = whole(paste_mask(mask, np.array(box), HEIGHT, WIDTH))
    if min(x2 - x1, y2 - y1) < 1e-3:
        assert got.sum() <= max(HEIGHT, WIDTH)
    else:
        want = bilinear_everywhere(mask, box)
        decided = np.abs(want - 0.5) > 1e-5
        assert np.array_equal(got[decided], want[decided] >= 0.5)


def test_sure_mask_fills_its_box() -> None:
    got = whole(paste_mask(np.ones((28, 28), np.float32), np.array([5, 7, 33, 35]), HEIGHT, WIDTH))
    want = np.zeros((HEIGHT, WIDTH), bool)
    want[7:35, 5:33] = True
    assert np.array_equal(got, want)


def test_probability_of_a_half_belongs_to_the_instance() -> None:
    mask = np.full((28, 28), 0.5, np.float32)
    pasted = paste_mask(mask, np.array([8.0, 8.0, 36.0, 36.0]), HEIGHT, WIDTH)
    assert pasted.pixels.all()


def test_region_is_the_box_in_whole_pixels_within_the_image() -> None:
    pasted = paste_mask(probabilities(0), np.array([-3.2, 10.7, 20.1, 99.0]), HEIGHT, WIDTH)
    assert (pasted.top, pasted.left, pasted.pixels.shape) == (10, 0, (50, 21))


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 10.0, 10.0, 20.0),
        (10.0, 20.0, 30.0, 20.0),
        (30.0, 20.0, 10.0, 40.0),
        (-30.0, 0.0, -5.0, 10.0),
        (100.0, 10.0, 120.0, 20.0),
        (10.0, 70.0, 20.0, 90.0),
        (float("nan"), 0.0, 10.0, 10.0),
    ],
)
def test_box_without_area_in_the_image_has_an_empty_mask(box: Box) -> None:
    pasted = paste_mask(np.ones((28, 28), np.float32), np.array(box), HEIGHT, WIDTH)
    assert pasted.pixels.size == 0
    assert rle_of_region(pasted, HEIGHT, WIDTH) == reference(np.zeros((HEIGHT, WIDTH), bool))


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, box = probabilities(3), np.array([2.2, 3.3, 70.4, 55.5])
    label_map = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
    want_pixels = paste_mask(mask, box, HEIGHT, WIDTH)
    want_region = rle_of_region(want_pixels, HEIGHT, WIDTH)
    want_classes = rle_of_classes(label_map, range(3))
    monkeypatch.setattr(masks, "STRIP_PIXELS", 150)
    pasted = paste_mask(mask, box, HEIGHT, WIDTH)
    assert np.array_equal(pasted.pixels, want_pixels.pixels)
    assert rle_of_region(pasted, HEIGHT, WIDTH) == want_region
    assert rle_of_classes(label_map, range(3)) == want_classes


@pytest.mark.parametrize(
    ("top", "left", "pixels"),
    [
        (0, 0, np.ones((7, 5), bool)),  # all of the image
        (0, 0, np.zeros((7, 5), bool)),
        (3, 2, np.ones((1, 1), bool)),
        (0, 0, np.ones((1, 1), bool)),
        (6, 4, np.ones((1, 1), bool)),  # the image's last pixel
        (0, 2, np.ones((7, 2), bool)),  # whole columns: one run
        (5, 0, np.ones((2, 5), bool)),  # bottom rows: runs end with their columns
        (0, 0, np.eye(7, 5, dtype=bool)),
        (2, 4, np.ones((5, 1), bool)),
    ],
)
def test_region_is_encoded_as_pycocotools_encodes_the_whole_mask(
    top: int, left: int, pixels: np.ndarray
) -> None:
    pasted = PastedMask(top, left, pixels)
    assert rle_of_region(pasted, 7, 5) == reference(whole(pasted, 7, 5))


@given(data=st.data(), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_region_is_encoded_as_pycocotools_does(
    data: st.DataObject, height: int, width: int
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(0, height - top)), data.draw(st.integers(0, width - left))
    flat = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    pasted = PastedMask(top, left, np.array(flat, bool).reshape(rows, columns))
    assert rle_of_region(pasted, height, width) == reference(whole(pasted, height, width))


@pytest.mark.slow
@given(data=st.data(), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_any_label_map_is_encoded_as_pycocotools_encodes_each_class(
    data: st.DataObject, height: int, width: int
) -> None:
    labels = st.lists(
        st.sampled_from([0, 1, 255]), min_size=height * width, max_size=height * width
    )
    label_map = np.array(data.draw(labels), np.uint8).reshape(height, width)
    got = rle_of_classes(label_map, [0, 1, 7, 255])
    assert got == {class_id: reference(label_map == class_id) for class_id in (0, 1, 7, 255)}


def test_only_the_classes_asked_for_are_encoded() -> None:
    assert list(rle_of_classes(np.zeros((4, 4), np.uint8), [2])) == [2]


def test_pasting_takes_little_more_than_the_boxs_area() -> None:
    side = 4000
    mask, box = probabilities(0), np.array([0.0, 0.0, side, side])
    assert peak_bytes(lambda: paste_mask(mask, box, side, side)) < side**2 + 16 * 2**20


def test_encoding_a_box_takes_far_less_than_its_image() -> None:
    pasted = paste_mask(probabilities(0), np.array([0.0, 0.0, 2000.0, 2000.0]), 2000, 2000)
    assert peak_bytes(lambda: rle_of_region(pasted, 50_000, 50_000)) < 8 * 2**20


def test_encoding_all_classes_takes_less_than_the_label_map() -> None:
    tiles = np.random.default_rng(0).integers(0, 150, (60, 80), dtype=np.uint8)
    label_map = np.kron(tiles, np.ones((50, 50), np.uint8))
    assert peak_bytes(lambda: rle_of_classes(label_map, range(150))) < label_map.nbytes


def probabilities(seed: int, cells: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Return a random mask as the network gives it."""
    return np.random.default_rng(seed).random(cells, dtype=np.float32)


def bilinear_everywhere(mask: np.ndarray, box: Box) -> np.ndarray:
    """Sample the mask at the centre of each of the image's pixels, one by one, in float64."""
    x1, y1, x2, y2 = box
    rows, columns = mask.shape
    fenced = np.pad(mask.astype(np.float64), 1)
    sampled = np.zeros((HEIGHT, WIDTH))
    for row in range(HEIGHT):
        down = (row + 0.5 - y1) / (y2 - y1) * rows - 0.5
        if not -1 < down < rows:
            continue
        for column in range(WIDTH):
            across = (column + 0.5 - x1) / (x2 - x1) * columns - 0.5
            if -1 < across < columns:
                top, left = int(np.floor(down)), int(np.floor(across))
                below, right = down - top, across - left
                corners = fenced[top + 1 : top + 3, left + 1 : left + 3]
                sampled[row, column] = np.array([1 - below, below]) @ corners @ [1 - right, right]
    return sampled


def whole(pasted: PastedMask, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return the mask of the whole image."""
    mask = np.zeros((height, width), bool)
    rows, columns = pasted.pixels.shape
    mask[pasted.top : pasted.top + rows, pasted.left : pasted.left + columns] = pasted.pixels
    return mask


def reference(mask: np.ndarray) -> RunLengths:
    """Encode a whole mask with pycocotools."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert isinstance(encoded["counts"], bytes)
    return RunLengths(size=list(encoded["size"]), counts=encoded["counts"].decode())


def peak_bytes(work: Callable[[], object]) -> int:
    """Return how much memory a call allocates at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
