"""How the Triton depthwise kernels want their weight; laid out once, when a network is prepared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNEL_MULTIPLE = 32
"""Channels are filled up with zeros to a multiple of this, a block of any Triton kernel."""

STRIP_COLUMNS = 16
"""Output columns that one row of a table serves."""

MOST_STRIP_ROWS = 4
"""Output rows that a strip may have: so many rows of zeros less one surround a table's taps."""


def lay_out(weight: Tensor) -> Tensor:
    """Lay a depthwise weight (C, 1, K, K) out for the kernels of its dtype.

    Matrix units multiply 16-bit numbers and want a ``tap_table``; float32 is multiplied number by
    number and wants its taps ``tap_major``.
    """
    return tap_table(weight) if weight.dtype.itemsize == 2 else tap_major(weight)


def laid_out_shape(channels: int, kernel_size: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Return the shape of ``lay_out`` of a weight of these sizes and dtype."""
    filled_up = channels + -channels % CHANNEL_MULTIPLE
    if dtype.itemsize == 2:
        rows = kernel_size + 2 * (MOST_STRIP_ROWS - 1)
        return filled_up, union_columns(kernel_size), rows, STRIP_COLUMNS
    return kernel_size + 2, kernel_size, filled_up


def tap_major(weight: Tensor) -> Tensor:
    """Lay taps out for multiplications number by number.

    Args:
        weight: as a convolution keeps it, (C, 1, K, K).

    Returns:
        (K + 2, K, C') float32: neighbouring channels side by side, a row of zeros above the
        kernel and one below it, C' the channels filled up to a multiple of ``CHANNEL_MULTIPLE``.
    """
    taps = weight[:, 0].permute(1, 2, 0).float()  # (C, K, K) -> (K, K, C)
    missing = -taps.shape[2] % CHANNEL_MULTIPLE
    return F.pad(taps, (0, missing, 0, 0, 1, 1)).contiguous()


def tap_table(weight: Tensor) -> Tensor:
    """Write every row of taps as the matrix that convolves a strip of 16 columns with it.

    Entry [c, u, r, x] is what input column u of the strip's union adds to output column x under
    tap row r - 3: the tap u - x, or zero. (u, x) is a Toeplitz matrix. With the rows of zeros
    above and below, any ``MOST_STRIP_ROWS`` neighbouring rows are a matrix for as many output
    rows, from the lowest to the highest.

    Args:
        weight: as a convolution keeps it, (C, 1, K, K).

    Returns:
        (C', U, K + 6, 16) in the weight's dtype, C' the channels filled up to a multiple of
        ``CHANNEL_MULTIPLE``, U = ``union_columns``.
    """
    channels, _, kernel_size, _ = weight.shape
    table = weight.new_zeros(laid_out_shape(channels, kernel_size, torch.float16))
    rows = slice(MOST_STRIP_ROWS - 1, MOST_STRIP_ROWS - 1 + kernel_size)
    for column in range(STRIP_COLUMNS):
        taps = weight[:, 0].transpose(1, 2)  # (C, K rows, K columns) -> (C, K columns, K rows)
        table[:channels, column : column + kernel_size, rows, column] = taps
    return table


def union_columns(kernel_size: int) -> int:
    """Return the input columns under a strip's windows, filled up to a power of two."""
    return 1 << (STRIP_COLUMNS + kernel_size - 2).bit_length()
