"""One label map of the logits of an image's passes, without torch.

Each pass's logits are resized to its region of the image as a single pass's are (see
``model.heads.label_map``), and added up by weight: a tile's falls to its edges, the whole image's
is the same everywhere. Resizings are linear and separable, and so are the weights, so that one
pair of small matrices does all of it, block by block: memory never holds classes times pixels. In a
block most classes cannot win and are left out, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from model.images.tiles import Region, TileGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHOLE_WEIGHT = 0.5
"""Weight of the whole image's logits, where those of the tiles have 1 together."""

BLOCK_SIDE = 64
"""Side of a block, pixels of the image: 256 classes take 4 MB at a time."""


@dataclass(frozen=True)
class PassLogits:
    """The logits of one pass.

    Attributes:
        logits: (classes, h, w), of any float type; a number that is added to all classes of a cell
            changes nothing.
        network_size: height and width of the network's input.
    """

    logits: NDArray[np.floating]
    network_size: tuple[int, int]


@dataclass(frozen=True)
class _Axis:
    """One axis of a pass: which cells each of its pixels reads, and by what weight.

    Attributes:
        start: of the pass in the image, pixels.
        cells: (pixels, 4).
        shares: (pixels, 4), the pass's weight in them.
    """

    start: int
    cells: NDArray[np.intp]
    shares: NDArray[np.float32]

    def within(self, begin: int, end: int) -> tuple[slice, slice, NDArray[np.float32]] | None:
        """Return the part of a block that the pass covers, its cells, and the matrix of both.

        None if it covers none of it.
        """
        first, last = max(begin, self.start), min(end, self.start + len(self.cells))
        if first >= last:
            return None
        cells = self.cells[first - self.start : last - self.start]
        shares = self.shares[first - self.start : last - self.start]
        low, high = int(cells.min()), int(cells.max()) + 1
        matrix = np.zeros((last - first, high - low), np.float32)
        np.add.at(matrix, (np.arange(last - first)[:, None], cells - low), shares)
        return slice(first - begin, last - begin), slice(low, high), matrix


@dataclass(frozen=True)
class _Placed:
    """A pass's logits at their place in the image."""

    logits: NDArray[np.floating]
    rows: _Axis
    columns: _Axis


def stitched_label_map(
    grid: TileGrid,
    passes: Sequence[PassLogits],
    *,
    whole_weight: float = WHOLE_WEIGHT,
    raise_if_cancelled: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """Blend the logits of all passes and take the best class.

    Args:
        grid: of the image.
        passes: one for each of the grid's regions, in order; finite, of up to 256 classes.
        whole_weight: of the whole image's logits beside the tiles', 0 or more.
        raise_if_cancelled: called now and then; raises if nobody waits for the label map.

    Returns:
        Class ids, (H, W) in the image's size.
    """
    groups = _placed(grid, passes, whole_weight)
    weights = (1.0, whole_weight)[: len(groups)]
    label_map = np.empty((grid.height, grid.width), np.uint8)
    for top in range(0, grid.height, BLOCK_SIDE):
        raise_if_cancelled()
        for left in range(0, grid.width, BLOCK_SIDE):
            block = label_map[top : top + BLOCK_SIDE, left : left + BLOCK_SIDE]
            _fill(block, [list(_pieces(each, top, left, *block.shape)) for each in groups], weights)
    return label_map


@dataclass(frozen=True)
class _Piece:
    """The part of a pass in a block: cells, and the matrices that bring them to its pixels."""

    cells: NDArray[np.float32]
    rows: slice
    columns: slice
    row_matrix: NDArray[np.float32]
    column_matrix: NDArray[np.float32]


def _placed(
    grid: TileGrid, passes: Sequence[PassLogits], whole_weight: float
) -> list[list[_Placed]]:
    """Return the passes in groups whose weights are the same at every pixel: tiles, whole image."""
    row_weights, column_weights = grid.weights()
    weights = [(rows, columns) for rows in row_weights for columns in column_weights]
    (whole, *tiles), (whole_region, *regions) = passes, grid.regions
    if not tiles:
        tiles, regions, whole_weight = [whole], [whole_region], 0.0
    groups = [
        [
            _place(each, region, *along)
            for each, region, along in zip(tiles, regions, weights, strict=True)
        ]
    ]
    if whole_weight:
        rows = np.full(grid.height, whole_weight, np.float32)
        groups.append([_place(whole, whole_region, rows, np.ones(grid.width, np.float32))])
    return groups


def _place(
    each: PassLogits, region: Region, rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> _Placed:
    _, cells_down, cells_across = each.logits.shape
    height, width = each.network_size
    return _Placed(
        each.logits,
        _axis(region.top, cells_down, height, region.height, rows),
        _axis(region.left, cells_across, width, region.width, columns),
    )


def _axis(start: int, cells: int, middle: int, pixels: int, weights: NDArray[np.float32]) -> _Axis:
    """Resize ``cells`` bilinearly to the network's input, and that to the region's pixels."""
    low, high, share = _neighbours(middle, pixels)
    first_low, first_high, first_share = _neighbours(cells, middle)
    indices = np.stack([first_low[low], first_high[low], first_low[high], first_high[high]], axis=1)
    shares = np.stack(
        [
            (1 - first_share[low]) * (1 - share),
            first_share[low] * (1 - share),
            (1 - first_share[high]) * share,
            first_share[high] * share,
        ],
        axis=1,
    )
    return _Axis(start, indices, (shares * weights[:, None]).astype(np.float32))


def _neighbours(
    start: int, size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the two neighbours of each of ``size`` pixels, and the share of the second."""
    position = ((np.arange(size) + 0.5) * (start / size) - 0.5).clip(min=0)
    low = position.astype(np.intp).clip(max=start - 1)
    return low, (low + 1).clip(max=start - 1), position - low


def _pieces(
    placed: Sequence[_Placed], top: int, left: int, height: int, width: int
) -> Iterator[_Piece]:
    for each in placed:
        down = each.rows.within(top, top + height)
        across = each.columns.within(left, left + width)
        if down is not None and across is not None:
            rows, row_cells, row_matrix = down
            columns, column_cells, column_matrix = across
            # float16 is slow on a CPU.
            cells = each.logits[:, row_cells, column_cells].astype(np.float32)
            yield _Piece(cells, rows, columns, row_matrix, column_matrix)


def _fill(
    block: NDArray[np.uint8], groups: Sequence[Sequence[_Piece]], weights: Sequence[float]
) -> None:
    """Write the best class of every pixel of a block."""
    candidates = _candidates(groups, weights)
    if len(candidates) == 1:
        block[:] = candidates[0]
        return
    values = np.zeros((len(candidates), *block.shape), np.float32)
    for piece in chain.from_iterable(groups):
        # A product for each class: OpenBLAS would share a large one among threads that spin.
        wide = piece.cells[candidates] @ piece.column_matrix.T  # (K, h, w) -> (K, h, W)
        values[:, piece.rows, piece.columns] += piece.row_matrix @ wide  # -> (K, H, W)
    block[:] = candidates[0]
    largest = values[0]
    for class_id, value in zip(candidates[1:], values[1:], strict=True):
        # Several times as fast as argmax along the first axis.
        np.copyto(block, class_id, where=value > largest)
        np.maximum(largest, value, out=largest)


def _candidates(groups: Sequence[Sequence[_Piece]], weights: Sequence[float]) -> NDArray[np.uint8]:
    """Return the classes that can win somewhere in a block.

    A group's part of a value lies between the smallest and the largest logit of its passes.
    """
    low, high = np.float32(0), np.float32(0)
    for pieces, weight in zip(groups, weights, strict=True):
        low += weight * np.min([piece.cells.min(axis=(1, 2)) for piece in pieces], axis=0)
        high += weight * np.max([piece.cells.max(axis=(1, 2)) for piece in pieces], axis=0)
    return np.flatnonzero(high >= low.max()).astype(np.uint8)
