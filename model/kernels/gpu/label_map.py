# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""A segmenter's label map as one GPU kernel: two bilinear resizings and the best class.

A program owns ``ROWS`` x ``COLUMNS`` pixels of the image and walks through the classes. Both
resizings together weigh at most three neighbouring cells of the logits along each axis, and the
rows of a program lie within four rows of cells. So for every class and row of cells

    wide   = the row of cells at the program's columns       three loads and multiply-adds a column
    value += weight of the row of cells * wide               ``ROWS`` multiply-adds a column

and a pixel keeps the largest value and its class in registers. No value leaves them: the memory
taken is the result's byte a pixel, whatever the number of classes, where two products per strip of
rows would write and read four bytes a pixel and class. Cells come from the second-level cache,
13 MB for 150 classes at 128x176 in float32.

Weights are computed from positions in float64, values added up in float32. Of any value the error
is below ``16 * 2**-24`` of the largest logit: the weights' sum is one, each is rounded four times,
and at most 12 products are added.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

COLUMNS = 128
"""Columns of a program, one for each of its threads, which holds all rows of it."""

WARPS = 4

CELL_ROWS = 4
"""Rows of cells under a program's rows, at most."""

ROWS = (8, 4, 2, 1)
"""Rows that a program may have: as many as lie within ``CELL_ROWS``."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _positions(  # type: ignore[no-untyped-def]
    pixels, cells, network, image
):
    """Find what pixels of the image (float64) are interpolated from.

    Returns:
        The positions, in cells, of the two pixels of the network's input that each pixel lies
        between, and the second one's share.
    """
    position = (pixels + 0.5) * (tl.full([1, 1], network, tl.float64) / image) - 0.5
    position = tl.maximum(position, 0.0)
    low = tl.floor(position)
    high = tl.minimum(low + 1, network - 1)
    scale = tl.full([1, 1], cells, tl.float64) / network
    low_cell = tl.minimum(tl.maximum((low + 0.5) * scale - 0.5, 0.0), cells - 1)
    high_cell = tl.minimum(tl.maximum((high + 0.5) * scale - 0.5, 0.0), cells - 1)
    return low_cell, high_cell, (position - low).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _weight(low_cell, high_cell, share, cell):  # type: ignore[no-untyped-def]
    """Weigh a cell (float64) in what lies between two positions; zero if it is next to neither."""
    low = tl.maximum(1 - tl.abs(low_cell - cell), 0.0).to(tl.float32)
    high = tl.maximum(1 - tl.abs(high_cell - cell), 0.0).to(tl.float32)
    return low + share * (high - low)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _wide(  # type: ignore[no-untyped-def]
    cells, left, middle, right, left_weight, middle_weight, right_weight
):
    """Interpolate a row of cells, (1, COLUMNS) float32."""
    wide = left_weight * tl.load(cells + left).to(tl.float32)
    wide += middle_weight * tl.load(cells + middle).to(tl.float32)
    wide += right_weight * tl.load(cells + right).to(tl.float32)
    return wide


_SIZES = (
    "classes",
    "cell_rows",
    "cell_columns",
    "network_rows",
    "network_columns",
    "rows",
    "columns",
)


# Images have any size: one compilation serves all.
@triton.jit(do_not_specialize=_SIZES)  # type: ignore[untyped-decorator,unused-ignore]
def _label_map_kernel(  # type: ignore[no-untyped-def]
    logits,
    labels,
    classes,
    cell_rows,
    cell_columns,
    network_rows,
    network_columns,
    rows,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Label a block of pixels. Axes: blocks of rows; blocks of columns."""
    first_row = tl.program_id(0) * ROWS
    row = first_row + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]

    # Beyond the image's end its last row and column are repeated.
    low_row, high_row, row_share = _positions(
        tl.minimum(row, rows - 1).to(tl.float64), cell_rows, network_rows, rows
    )
    top = tl.min(tl.floor(low_row), axis=0, keep_dims=True)  # (1, 1)
    weight_0 = _weight(low_row, high_row, row_share, top)  # (ROWS, 1)
    weight_1 = _weight(low_row, high_row, row_share, top + 1)
    weight_2 = _weight(low_row, high_row, row_share, top + 2)
    weight_3 = _weight(low_row, high_row, row_share, top + 3)
    # A cell beyond the last has no weight: the last one is read in its place.
    row_0 = top.to(tl.int32) * cell_columns
    row_1 = tl.minimum(top.to(tl.int32) + 1, cell_rows - 1) * cell_columns
    row_2 = tl.minimum(top.to(tl.int32) + 2, cell_rows - 1) * cell_columns
    row_3 = tl.minimum(top.to(tl.int32) + 3, cell_rows - 1) * cell_columns

    low_column, high_column, column_share = _positions(
        tl.minimum(column, columns - 1).to(tl.float64), cell_columns, network_columns, columns
    )
    start = tl.floor(low_column)  # (1, COLUMNS)
    left_weight = _weight(low_column, high_column, column_share, start)
    middle_weight = _weight(low_column, high_column, column_share, start + 1)
    right_weight = _weight(low_column, high_column, column_share, start + 2)
    left = start.to(tl.int32)
    middle = tl.minimum(left + 1, cell_columns - 1)
    right = tl.minimum(left + 2, cell_columns - 1)

    best = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    best_class = tl.zeros([ROWS, COLUMNS], tl.int32)
    for label in tl.range(0, classes):
        wide = _wide(logits + row_0, left, middle, right, left_weight, middle_weight, right_weight)
        value = weight_0 * wide
        wide = _wide(logits + row_1, left, middle, right, left_weight, middle_weight, right_weight)
        value += weight_1 * wide
        wide = _wide(logits + row_2, left, middle, right, left_weight, middle_weight, right_weight)
        value += weight_2 * wide
        wide = _wide(logits + row_3, left, middle, right, left_weight, middle_weight, right_weight)
        value += weight_3 * wide
        better = value > best  # of equal values the lower class stays
        best = tl.where(better, value, best)
        best_class = tl.where(better, label, best_class)
        logits += cell_rows * cell_columns

    tl.store(
        labels + row * columns + column,
        best_class.to(tl.uint8),
        mask=(row < rows) & (column < columns),
    )


@triton_op("overlock::label_map", mutates_args=())
def label_map_triton(
    logits: Tensor, network_rows: int, network_columns: int, rows: int, columns: int
) -> Tensor:
    """Label an image's pixels; see ``model.heads.label_map``, which has checked the classes.

    Args:
        logits: of one image, (classes, h, w), finite; float32, bfloat16 or float16.
        network_rows: rows of the network's input, at least h.
        network_columns: columns of the network's input, at least w.
        rows: rows of the image.
        columns: columns of the image.

    Returns:
        Class ids, uint8 (rows, columns).
    """
    classes, cell_rows, cell_columns = logits.shape
    labels = torch.empty((rows, columns), dtype=torch.uint8, device=logits.device)
    rows_of_program = _rows_of_program(cell_rows, network_rows, rows)
    grid = (triton.cdiv(rows, rows_of_program), triton.cdiv(columns, COLUMNS))
    wrap_triton(_label_map_kernel)[grid](
        # Neighbouring columns side by side: 32 lanes read neighbouring cells of one class.
        logits.contiguous(),
        labels,
        classes,
        cell_rows,
        cell_columns,
        network_rows,
        network_columns,
        rows,
        columns,
        ROWS=rows_of_program,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )
    return labels


def _rows_of_program(cell_rows: int, network_rows: int, rows: int) -> int:
    """Return how many rows of the image are sure to lie within ``CELL_ROWS`` rows of cells."""
    for count in ROWS[:-1]:
        # Neighbouring rows of the input span less than a cell; one more row is the second lerp's.
        input_rows = triton.cdiv((count - 1) * network_rows, rows) + 1
        if triton.cdiv(input_rows * cell_rows, network_rows) + 2 <= CELL_ROWS:
            return count
    return ROWS[-1]
