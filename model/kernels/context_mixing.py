"""ContMix for inference: attention over virtual keys, then local aggregation, tile by tile.

The map from affinity to kernel logits is linear, so it is folded into the keys once per image:
``logits = q . (W keys) + b``. What remains per pixel is one product with k*k + K*K short *virtual
keys*, two softmaxes and two weighted sums of a window.

The weighted sums run as matrix products over tiles of pixels. Near the border the windows of many
pixels coincide (on a 14x14 map a 13x13 kernel has 2x2 distinct windows, on 7x7 a 7x7 kernel has
one), and a tile of such pixels is a plain product of its weights with that one window. In the
interior each step moves the window by one, and a tile's weights are written along the diagonals
of a small zero matrix over the union of its windows. No weight tensor of a whole map exists, so
memory is bounded by a tile, whatever the image.

On a GPU a Triton kernel does all of it in one launch (``model.kernels.gpu.context_mixing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import torch
from torch import Tensor

from model.kernels.gpu.autotune import Autotuner, Problem
from model.kernels.gpu.mixing_orders import triton_orders
from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.context_mixing import context_mixing_triton

Implementation = Literal["auto", "tiles", "triton", "triton_prefetched", "triton_at_once"]

Choice = Implementation | Autotuner
"""An explicit implementation, or a table of the fastest; "auto" solves unmeasured problems."""

OPERATION = "context_mixing"
"""Name of the problems in an ``Autotuner``."""

INTERIOR_TILE_PIXELS = 8
"""Side of an interior tile. Its union of windows is (8 + K - 1)^2 pixels: 2.4 K^2 for K = 13."""


@dataclass(frozen=True)
class Segment:
    """A run of rows (or columns) whose windows either coincide or advance by one each.

    Attributes:
        start: the first row.
        size: number of rows.
        window_start: start of the first row's window.
        step: 0 if all rows share one window, 1 if it advances with them.
        bias_start: the first row's offset inside its window, which selects its position bias.
    """

    start: int
    size: int
    window_start: int
    step: int
    bias_start: int

    def union_size(self, kernel_size: int) -> int:
        """Return the number of rows that the windows of this segment cover together."""
        return kernel_size + (self.size - 1) * self.step


def segments(size: int, kernel_size: int) -> tuple[Segment, ...]:
    """Cut an axis of the map into segments, in order.

    Args:
        size: rows (or columns) of the map; at least ``kernel_size``.
        kernel_size: odd.
    """
    # The compiler calls this once, while it traces; it warns of caches, which it does not use.
    compiling = torch.compiler.is_compiling()
    return (_cut_segments if compiling else _cached_segments)(size, kernel_size)


def _cut_segments(size: int, kernel_size: int) -> tuple[Segment, ...]:
    half, last = kernel_size // 2, size - kernel_size
    if last == 0:
        return (Segment(0, size, 0, 0, 0),)
    first_interior, first_bottom = half + 1, last + half
    interior = tuple(
        Segment(start, min(INTERIOR_TILE_PIXELS, first_bottom - start), start - half, 1, half)
        for start in range(first_interior, first_bottom, INTERIOR_TILE_PIXELS)
    )
    top = Segment(0, first_interior, 0, 0, 0)
    bottom = Segment(first_bottom, size - first_bottom, last, 0, half)
    return (top, *interior, bottom)


_cached_segments = lru_cache(maxsize=1024)(_cut_segments)


def position_bias_windows(position_bias: Tensor, mix_bias: Tensor) -> Tensor:
    """Arrange the position bias by a pixel's offset inside its window, and add the map's bias.

    Args:
        position_bias: by relative position, (G, 2K - 1, 2K - 1).
        mix_bias: one value per tap, (K*K,).

    Returns:
        (G, K, K, K*K): entry [g, u, v] is the bias of all taps for a pixel that sits at row u and
        column v of its window. Interior pixels sit at K // 2; near the border u and v vary.
    """
    kernel_size = (position_bias.shape[-1] + 1) // 2
    # bias[start + tap - position + K - 1] = bias[tap - u + K - 1]: windows in falling order of u.
    windows = position_bias.unfold(1, kernel_size, 1).unfold(2, kernel_size, 1).flip(1, 2)
    return (windows.flatten(-2) + mix_bias).contiguous()


def context_mixing(
    values: Tensor,
    queries: Tensor,
    virtual_keys: Tensor,
    small_bias: Tensor,
    large_bias: Tensor,
    *,
    implementation: Choice = "auto",
) -> Tensor:
    """Aggregate every pixel's neighbourhood with weights made from the pooled context.

    Equal to ``context_mixing_reference`` up to rounding.

    Args:
        values: features to aggregate, (B, C, H, W); H and W at least the large kernel K.
        queries: one scaled vector per pixel, (B, Q, H, W), split over the G groups.
        virtual_keys: (B, G, k*k + K*K, Q / G), the small kernel's first.
        small_bias: ``position_bias_windows`` of the small kernel, (G, k, k, k*k).
        large_bias: the same of the large kernel, (G, K, K, K*K).
        implementation: "auto" chooses the Triton kernel where it runs, else the tiles. Which of
            its orders run depends on dtype and width: see ``triton_orders``.

    Returns:
        Aggregated features, (B, C, H, W), in the memory format of ``values``.

    Raises:
        ValueError: if the map is smaller than the large kernel, or the requested implementation
            does not run here.
    """
    height, width = values.shape[2:]
    kernel_size = large_bias.shape[1]
    if min(height, width) < kernel_size:
        raise ValueError(f"A {height}x{width} map is smaller than the {kernel_size}-pixel kernel.")
    tensors = values, queries, virtual_keys, small_bias, large_bias
    order = _triton_order(implementation, *tensors)
    if order is not None:
        return cast("Tensor", context_mixing_triton(*tensors, order))
    result = torch.empty_like(values)
    small_keys, large_keys = virtual_keys.split([small_bias.shape[-1], large_bias.shape[-1]], dim=2)
    half = values.shape[1] // 2
    for channels, keys, bias in (
        (slice(0, half), small_keys, small_bias),
        (slice(half, None), large_keys, large_bias),
    ):
        _aggregate(values[:, channels], queries, keys, bias, result[:, channels])
    return result


def mixing_problem(
    values: Tensor, queries: Tensor, small_bias: Tensor, large_bias: Tensor
) -> Problem:
    """Return the key of this problem in an ``Autotuner``; see ``depthwise_problem``."""
    images = "one" if values.shape[0] == 1 else "many"
    sizes = queries.shape[1], *small_bias.shape[:2], large_bias.shape[1]
    return (OPERATION, images, *values.shape[1:], *sizes, values.dtype, values.device)


def _triton_order(choice: Choice, *tensors: Tensor) -> str | None:
    """Return the order of the Triton kernel, or None for the tiles."""
    if choice == "tiles":
        return None
    values, queries, _, small_bias, large_bias = tensors
    reason = triton_unsupported_reason(*tensors)
    if reason is None and len({tensor.dtype for tensor in tensors}) > 1:
        reason = "the tensors differ in dtype"
    if choice == "auto" or isinstance(choice, Autotuner):
        if reason is not None:
            return None
        if choice == "auto":
            return "triton"
        problem = mixing_problem(values, queries, small_bias, large_bias)
        return choice.fastest(problem, default="triton")
    kernel_size, width = large_bias.shape[1], values.shape[3]
    if reason is None and choice not in triton_orders(values.dtype, kernel_size, width):
        side = f"{kernel_size}x{kernel_size} windows on {width} columns"
        reason = f"{choice!r} is not an order for {values.dtype}, {side}"
    if reason is not None:
        raise ValueError(f"The Triton kernel of ContMix was requested, but {reason}.")
    return choice


def _aggregate(values: Tensor, queries: Tensor, keys: Tensor, bias: Tensor, result: Tensor) -> None:
    """Fill ``result`` (B, C', H, W) for one kernel size, tile by tile."""
    batch, channels, height, width = values.shape
    groups, kernel_size = bias.shape[:2]
    values = values.reshape(batch, groups, channels // groups, height, width)
    result = result.view(batch, groups, channels // groups, height, width)
    queries = queries.view(batch, groups, -1, height, width)
    keys = keys.transpose(2, 3)  # (B, G, K*K, D) -> (B, G, D, K*K)
    for rows in segments(height, kernel_size):
        for columns in segments(width, kernel_size):
            tile = (..., _pixels(rows), _pixels(columns))
            window = values[..., _union(rows, kernel_size), _union(columns, kernel_size)].flatten(
                -2
            )  # (B, G, C', U)
            logits = queries[tile].flatten(-2).transpose(2, 3) @ keys  # (B, G, N, K*K)
            logits = logits.unflatten(2, (rows.size, columns.size)) + _tile_bias(
                bias, rows, columns
            )
            weights = _spread_over_union(logits.softmax(dim=-1), rows, columns, kernel_size)
            # (B, G, N, U) x (B, G, U, C') -> (B, G, C', N)
            mixed = (weights @ window.transpose(2, 3)).transpose(2, 3)
            result[tile] = mixed.unflatten(-1, (rows.size, columns.size))


def _pixels(segment: Segment) -> slice:
    return slice(segment.start, segment.start + segment.size)


def _union(segment: Segment, kernel_size: int) -> slice:
    return slice(segment.window_start, segment.window_start + segment.union_size(kernel_size))


def _tile_bias(bias: Tensor, rows: Segment, columns: Segment) -> Tensor:
    """Return a view of the bias of a tile's pixels, (G, rows or 1, columns or 1, K*K)."""
    first_row, first_column = rows.bias_start, columns.bias_start
    row_count = 1 if rows.step else rows.size
    column_count = 1 if columns.step else columns.size
    return bias[:, first_row : first_row + row_count, first_column : first_column + column_count]


def _spread_over_union(
    weights: Tensor, rows: Segment, columns: Segment, kernel_size: int
) -> Tensor:
    """Write every pixel's weights where its window lies in the tile's union.

    Args:
        weights: (B, G, rows, columns, K*K).
        rows: the tile's rows.
        columns: the tile's columns.
        kernel_size: K.

    Returns:
        (B, G, N, U): N pixels of the tile, U pixels of the union.
    """
    if not rows.step and not columns.step:
        return weights.flatten(2, 3)
    batch, groups = weights.shape[:2]
    union_rows, union_columns = rows.union_size(kernel_size), columns.union_size(kernel_size)
    union = union_rows * union_columns
    dense = weights.new_zeros(batch, groups, rows.size * columns.size, union)
    pixel_row = columns.size * union + rows.step * union_columns
    pixel_column = union + columns.step
    diagonals = dense.as_strided(
        (batch, groups, rows.size, columns.size, kernel_size, kernel_size),
        (*dense.stride()[:2], pixel_row, pixel_column, union_columns, 1),
    )
    diagonals.copy_(weights.unflatten(-1, (kernel_size, kernel_size)))
    return dense
