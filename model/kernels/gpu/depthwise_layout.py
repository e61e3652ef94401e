"""Weight layouts of the Triton depthwise kernels, made once, when a network is prepared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNEL_MULTIPLE = 32
"""Channels are padded with zeros to a multiple of this, which any tile's channels divide."""

STRIP_COLUMNS = 16
"""Output columns of a strip, and so of a tap table."""

MAX_PAIRED_KERNEL = 17
"""Largest kernel of the kernel that pairs channels: two depths of a matrix unit cover its windows.

That kernel reads the weight itself.
"""

MAX_STRIP_ROWS = 4
"""Most output rows of a strip; a tap table has one row of zeros less above and below its taps."""


def lay_out(weight: Tensor) -> Tensor:
    """Lay a depthwise weight (C, 1, K, K) out for the kernels of its dtype.

    The 16-bit kernel multiplies on the matrix units and takes a ``tap_table``; the float32 kernel
    takes its taps ``tap_major``.
    """
    return tap_table(weight) if weight.dtype.itemsize == 2 else tap_major(weight)


def laid_out_shape(channels: int, kernel_size: int, dtype: torch.dtype) -> tuple[int, ...]:
    """Return the shape of ``lay_out`` of a weight of these sizes and dtype."""
    padded_channels = channels + -channels % CHANNEL_MULTIPLE
    if dtype.itemsize == 2:
        rows = kernel_size + 2 * (MAX_STRIP_ROWS - 1)
        return padded_channels, union_columns(kernel_size), rows, STRIP_COLUMNS
    return kernel_size + 2, kernel_size, padded_channels


def tap_major(weight: Tensor) -> Tensor:
    """Lay taps out for the float32 kernel.

    Args:
        weight: of a depthwise convolution, (C, 1, K, K).

    Returns:
        (K + 2, K, C') float32: neighbouring channels side by side, a row of zeros above the
        kernel and one below it, C' the channels padded to a multiple of ``CHANNEL_MULTIPLE``.
    """
    taps = weight[:, 0].permute(1, 2, 0).float()  # (C, K, K) -> (K, K, C)
    missing = -taps.shape[2] % CHANNEL_MULTIPLE
    return F.pad(taps, (0, missing, 0, 0, 1, 1)).contiguous()


def tap_table(weight: Tensor) -> Tensor:
    """Write every row of taps as the matrix that convolves a strip of 16 columns with it.

    Entry [c, u, r, x] is the weight of input column u of the strip's union in output column x for
    tap row r - 3: tap u - x, or zero. (u, x) is a Toeplitz matrix. With the rows of zeros above and
    below, any ``MAX_STRIP_ROWS`` neighbouring rows are the matrix of that number of output rows,
    from the lowest to the highest.

    Args:
        weight: of a depthwise convolution, (C, 1, K, K).

    Returns:
        (C', U, K + 6, 16) in the weight's dtype, C' the channels padded to a multiple of
        ``CHANNEL_MULTIPLE``, U = ``union_columns``.
    """
    channels, _, kernel_size, _ = weight.shape
    table = weight.new_zeros(laid_out_shape(channels, kernel_size, torch.float16))
    rows = slice(MAX_STRIP_ROWS - 1, MAX_STRIP_ROWS - 1 + kernel_size)
    for column in range(STRIP_COLUMNS):
        taps = weight[:, 0].transpose(1, 2)  # (C, K rows, K columns) -> (C, K columns, K rows)
        table[:channels, column : column + kernel_size, rows, column] = taps
    return table


def union_columns(kernel_size: int) -> int:
    """Return the number of input columns under a strip's windows, padded to a power of two."""
    return 1 << (STRIP_COLUMNS + kernel_size - 2).bit_length()
