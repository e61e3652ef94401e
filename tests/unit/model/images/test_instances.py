from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.images.instances import FoundInstances, MergedInstance, merged_instances
from model.images.tiles import TileGrid

GRID = TileGrid(1000, 1800, 1000, 0.2)
"""A left tile to column 1000, a right one from column 800, and the whole image."""

WHOLE, LEFT, RIGHT = range(3)

Box = tuple[float, float, float, float]


def merge(*instances: tuple[int, float, Box] | tuple[int, float, Box, int]) -> list[MergedInstance]:
    """Merge instances: pass, score, box and class."""
    columns = [(*each, 0)[:4] for each in instances]
    found = FoundInstances(
        boxes=np.array([box for _, _, box, _ in columns], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _, _ in columns], np.float32),
        labels=np.array([label for _, _, _, label in columns], np.int64),
        masks=np.ones((len(columns), 28, 28), np.float32),
        passes=np.array([number for number, _, _, _ in columns], np.intp),
    )
    return merged_instances(found, GRID.regions)


def boxes_of(objects: Sequence[MergedInstance]) -> list[list[float]]:
    return [each.box.tolist() for each in objects]


def test_an_object_that_two_passes_see_whole_is_the_better_one() -> None:
    objects = merge(
        (LEFT, 0.7, (820, 100, 960, 300)),
        (RIGHT, 0.9, (824, 102, 962, 300)),
        (WHOLE, 0.6, (815, 90, 970, 310)),
    )
    assert [each.parts for each in objects] == [(1,)]
    assert boxes_of(objects) == [[824, 102, 962, 300]]


def test_a_cut_part_gives_way_to_the_complete_object() -> None:
    objects = merge(
        (LEFT, 0.95, (600, 100, 1000, 300)),
        (RIGHT, 0.9, (800, 100, 1300, 300)),
        (WHOLE, 0.5, (600, 100, 1300, 300)),
    )
    assert [each.parts for each in objects] == [(2,)]
    assert boxes_of(objects) == [[600, 100, 1300, 300]]


def test_a_fragment_within_a_complete_object_gives_way_too() -> None:
    objects = merge((LEFT, 0.9, (700, 150, 1000, 250)), (WHOLE, 0.5, (600, 100, 1300, 300)))
    assert [each.parts for each in objects] == [(1,)]


def test_parts_of_neighbouring_tiles_become_one() -> None:
    objects = merge((LEFT, 0.6, (100, 100, 1000, 300)), (RIGHT, 0.8, (800, 90, 1700, 300)))
    (one,) = objects
    assert one.parts == (1, 0)  # the best first
    assert one.score == np.float32(0.8)
    assert one.box.tolist() == [100, 90, 1700, 300]


def test_parts_that_disagree_where_both_see_stay_apart() -> None:
    objects = merge((LEFT, 0.6, (100, 100, 1000, 300)), (RIGHT, 0.8, (810, 500, 1700, 800)))
    assert len(objects) == 2
    # It reaches three pixels into what both see, where another object fills much more.
    objects = merge((LEFT, 0.6, (100, 100, 1000, 300)), (RIGHT, 0.8, (997, 100, 1700, 300)))
    assert len(objects) == 2


def test_classes_are_apart() -> None:
    box = (820.0, 100.0, 960.0, 300.0)
    assert len(merge((LEFT, 0.7, box, 1), (RIGHT, 0.9, box, 2))) == 2


def test_what_one_pass_tells_apart_stays_apart() -> None:
    one, two = (100.0, 100.0, 300.0, 300.0), (110.0, 100.0, 310.0, 300.0)
    assert len(merge((LEFT, 0.7, one), (LEFT, 0.6, two))) == 2


def test_an_object_at_the_images_own_edge_is_complete() -> None:
    objects = merge((LEFT, 0.9, (0, 100, 200, 300)), (WHOLE, 0.5, (0, 105, 205, 300)))
    assert [each.parts for each in objects] == [(0,)]


def test_the_objects_come_best_first() -> None:
    objects = merge(
        (LEFT, 0.2, (10, 10, 90, 90)),
        (WHOLE, 0.7, (500, 500, 600, 600)),
        (RIGHT, 0.9, (1100, 10, 1800, 90)),
    )
    assert [round(each.score, 1) for each in objects] == [0.9, 0.7, 0.2]


def test_nothing_found_is_nothing() -> None:
    assert merge() == []


def test_a_box_without_area_harms_nothing() -> None:
    assert len(merge((LEFT, 0.9, (900, 100, 900, 300)), (WHOLE, 0.5, (890, 100, 910, 300)))) == 2
