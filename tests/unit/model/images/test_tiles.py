from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.images.tiles import TileGrid, smallest_tile

grids = st.builds(
    TileGrid,
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    tile=st.integers(64, 2000),
    overlap=st.floats(0, 0.5),
)


@given(grid=grids)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_tiles_cover_the_image_and_lie_inside_it(grid: TileGrid) -> None:
    tiles = grid.regions[1:] or grid.regions
    rows, columns = np.zeros(grid.height, bool), np.zeros(grid.width, bool)
    for tile in tiles:
        assert 0 <= tile.top < tile.bottom <= grid.height
        assert 0 <= tile.left < tile.right <= grid.width
        assert (tile.height, tile.width) == (grid.tile_height, grid.tile_width)
        rows[tile.top : tile.bottom] = True
        columns[tile.left : tile.right] = True
    assert rows.all()
    assert columns.all()
    assert len(tiles) == len(grid.tops) * len(grid.lefts)
    assert len({*tiles}) == len(tiles)
    assert grid.regions[0] == grid.whole
    assert grid.passes == len(grid.regions)


@given(grid=grids)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_weights_add_up_to_one_at_every_pixel(grid: TileGrid) -> None:
    for starts, weights, length in zip(
        (grid.tops, grid.lefts), grid.weights(), (grid.height, grid.width), strict=True
    ):
        total = np.zeros(length)
        for start, weight in zip(starts, weights, strict=True):
            assert (weight > 0).all()
            total[start : start + len(weight)] += weight
        np.testing.assert_allclose(total, 1, atol=1e-6)  # float32


@given(grid=grids)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_neighbours_share_at_least_the_overlap(grid: TileGrid) -> None:
    for starts, size in ((grid.tops, grid.tile_height), (grid.lefts, grid.tile_width)):
        for first, second in pairwise(starts):
            assert first + size - second >= int(grid.overlap * size)


def test_an_image_that_fits_in_a_tile_has_one_pass() -> None:
    assert TileGrid(600, 1024, 1024, 0.2).regions == ((0, 0, 600, 1024),)
    assert TileGrid(600, 1025, 1024, 0.2).passes == 3


def test_a_tile_weighs_least_at_its_inner_edges() -> None:
    rows, _ = TileGrid(1800, 900, 1000, 0.2).weights()
    first, second = rows
    assert first[0] == 1  # the image's own edge
    assert first[-1] < 0.01
    assert second[0] < 0.01
    np.testing.assert_allclose(first[800:] + second[:200], 1, atol=1e-6)
    assert (np.diff(first[800:]) < 0).all()


@given(
    height=st.integers(1, 32_768),
    width=st.integers(1, 32_768),
    overlap=st.floats(0, 0.5),
    most=st.integers(1, 64),
)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_tile_that_would_do_does(height: int, width: int, overlap: float, most: int) -> None:
    tile = smallest_tile(height, width, overlap, most)
    assert TileGrid(height, width, tile, overlap).passes <= most


@pytest.mark.parametrize(("tile", "passes"), [(1024, 166), (2048, 49), (12_000, 1)])
def test_the_passes_of_a_hundred_megapixels(tile: int, passes: int) -> None:
    assert TileGrid(9000, 12_000, tile, 0.2).passes == passes
