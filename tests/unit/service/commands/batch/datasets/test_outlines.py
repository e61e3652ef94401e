from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.images.masks import RunLengths, rle_of_classes
from service.commands.batch.datasets.images import FoundObject
from service.commands.batch.datasets.outlines import joined, polygons_of, region_polygons


def filled(polygons: list[Any], shape: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        # One by one: where two of them overlap, the even-odd rule would leave a gap.
        cv2.fillPoly(alone := np.zeros(shape, np.uint8), [polygon.astype(np.int32)], 1)
        mask |= alone
    return mask


def drawn(*rows: str) -> NDArray[np.uint8]:
    return np.array([[character == "#" for character in row] for row in rows], np.uint8)


def noise(share: float, cell: int = 1) -> NDArray[np.uint8]:
    chance = np.random.default_rng(int(100 * share))
    cells = (chance.random((40, 60)) < share).astype(np.uint8)
    return cells.repeat(cell, axis=0).repeat(cell, axis=1)


MASKS = {
    "a pixel": drawn("....", ".#..", "...."),
    "two pixels": drawn("....", ".##.", "...."),
    "a diagonal": drawn("#...", ".#..", "..#."),
    "a ring": drawn("####", "#..#", "####"),
    "two holes side by side": drawn("#######", "#..#..#", "#######"),
    "a hole at the edge of another": drawn("######", "#.####", "##..##", "######"),
    "an island in a hole": drawn("#####", "#...#", "#.#.#", "#...#", "#####"),
    "everything": drawn("###", "###"),
    "a comb": drawn("#######", "#.#.#.#", "#.#.#.#"),
    "sparse noise": noise(0.3),
    "dense noise": noise(0.7),
    "coarse noise": noise(0.6, cell=3),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_polygons_of_regions_are_the_mask_to_the_pixel(name: str) -> None:
    mask = MASKS[name]
    np.testing.assert_array_equal(filled(region_polygons(mask), mask.shape), mask)


def test_a_polygon_has_corners_alone() -> None:
    (polygon,) = region_polygons(np.ones((200, 300), np.uint8))
    assert sorted(map(tuple, polygon.tolist())) == [(0, 0), (0, 199), (299, 0), (299, 199)]


def test_joined_regions_have_the_mask_and_lines_between_its_parts() -> None:
    mask = drawn("##...##", "##...##", ".......")
    polygon = joined(region_polygons(mask))
    added = filled([polygon], mask.shape).astype(int) - mask
    assert added.min() == 0
    assert added.sum() == 3


def run_lengths(mask: NDArray[np.uint8]) -> RunLengths:
    return rle_of_classes(mask, [1])[1]


def test_a_detection_has_one_polygon_and_stuff_one_for_each_region() -> None:
    mask = run_lengths(drawn("##...##", "##...##"))
    assert len(polygons_of(FoundObject(0, mask))) == 2
    assert len(polygons_of(FoundObject(0, mask, box=(0, 0, 7, 2), score=0.5))) == 1


def test_a_small_region_has_three_corners_all_the_same() -> None:
    (polygon,) = polygons_of(FoundObject(0, run_lengths(MASKS["a pixel"])))
    assert polygon.tolist() == [[1, 1]] * 3


def test_a_detection_whose_mask_is_empty_has_its_box() -> None:
    empty = run_lengths(np.zeros((4, 6), np.uint8))
    (polygon,) = polygons_of(FoundObject(0, empty, box=(1, 0, 5, 3), score=0.5))
    assert polygon.tolist() == [[1, 0], [5, 0], [5, 3], [1, 3]]
    assert polygons_of(FoundObject(0, empty)) == []
