from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.heads.label_map import label_map, relative_logits
from model.images.stitching import PassLogits, stitched_label_map
from model.images.tiles import TileGrid


def noise(classes: int, height: int, width: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(classes, height, width, generator=torch.Generator().manual_seed(seed))


def four_times(logits: torch.Tensor) -> tuple[int, int]:
    return 4 * logits.shape[1], 4 * logits.shape[2]


@pytest.mark.parametrize(
    ("classes", "cells", "size"),
    [
        (20, (32, 44), (375, 500)),
        (11, (8, 8), (1, 1)),
        (256, (16, 16), (64, 64)),
        (5, (8, 56), (7, 901)),
        (3, (17, 9), (68, 36)),
    ],
)
def test_one_pass_gives_the_label_map_of_the_image_alone(
    classes: int, cells: tuple[int, int], size: tuple[int, int]
) -> None:
    logits = noise(classes, *cells)
    want = label_map(logits, four_times(logits), size).numpy()
    grid = TileGrid(*size, tile=8192, overlap=0.2)
    got = stitched_label_map(grid, [PassLogits(logits.numpy(), four_times(logits))])
    # float32 may tip a pixel that lies on the line between two classes.
    assert (got != want).mean() <= 1e-4


def test_half_precision_below_the_largest_changes_hardly_a_label() -> None:
    logits = 500 * noise(30, 24, 24) + 3000  # as large as those of random weights
    grid, size = TileGrid(300, 300, 512, 0.2), four_times(logits)
    want = label_map(logits, size, (300, 300)).numpy()
    halved = relative_logits(logits)
    assert halved.dtype == torch.float16
    assert torch.isfinite(halved).all()
    got = stitched_label_map(grid, [PassLogits(halved.numpy(), size)])
    assert (got != want).mean() <= 2e-3  # float16 keeps 11 bits of each difference


def test_logits_beyond_half_precision_stay_finite() -> None:
    logits = torch.tensor([0.0, 1e6]).view(2, 1, 1)
    assert relative_logits(logits).flatten().tolist() == [-65504, 0]


def test_logits_can_be_sent_however_the_network_laid_them_out() -> None:
    logits = noise(4, 6, 5)[None].to(memory_format=torch.channels_last)[0]
    assert not logits.is_contiguous()
    assert relative_logits(logits).is_contiguous()


def passes_of(grid: TileGrid, classes: int, cells: int = 16, seed: int = 0) -> list[PassLogits]:
    made = (noise(classes, cells, cells, seed + place) for place in range(grid.passes))
    return [PassLogits(each.numpy(), (4 * cells, 4 * cells)) for each in made]


def blended(grid: TileGrid, passes: list[PassLogits], whole_weight: float) -> NDArray[np.floating]:
    """Blend at full size, all classes at once."""
    classes = len(passes[0].logits)
    values = np.zeros((classes, grid.height, grid.width))
    rows, columns = grid.weights()
    weights = [np.outer(row, column) for row in rows for column in columns]
    everywhere = np.full((grid.height, grid.width), whole_weight)
    for each, region, weight in zip(passes, grid.regions, [everywhere, *weights], strict=True):
        logits = torch.from_numpy(each.logits).double()[None]
        wide = torch.nn.functional.interpolate(logits, size=each.network_size, mode="bilinear")
        size = (region.height, region.width)
        full = torch.nn.functional.interpolate(wide, size=size, mode="bilinear")[0].numpy()
        values[:, region.top : region.bottom, region.left : region.right] += weight * full
    return values


@pytest.mark.parametrize("whole_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_equals_blending_everything_at_full_size(whole_weight: float, overlap: float) -> None:
    grid = TileGrid(211, 333, 100, overlap)
    passes = passes_of(grid, classes=7)
    want = blended(grid, passes, whole_weight).argmax(axis=0)
    got = stitched_label_map(grid, passes, whole_weight=whole_weight)
    assert (got != want).mean() <= 1e-4  # float32, as above


def test_a_class_offset_of_a_pass_changes_nothing() -> None:
    grid = TileGrid(200, 200, 120, 0.2)
    passes = passes_of(grid, classes=5)
    moved = [PassLogits(each.logits + 7 * n, each.network_size) for n, each in enumerate(passes)]
    got, want = stitched_label_map(grid, moved), stitched_label_map(grid, passes)
    assert (got != want).mean() <= 1e-4


def test_memory_does_not_grow_with_classes_times_pixels() -> None:
    grid = TileGrid(1200, 1600, 700, 0.2)
    passes = passes_of(grid, classes=150)
    tracemalloc.start()
    stitched_label_map(grid, passes)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 32 * 2**20  # of 1,150 MB for all values


def test_long_work_ends_when_nobody_waits() -> None:
    grid = TileGrid(300, 300, 200, 0.2)

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        stitched_label_map(grid, passes_of(grid, classes=3), raise_if_cancelled=cancelled)
