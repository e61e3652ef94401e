"""ContMix's local aggregation in plain PyTorch: the specification that every fast path must meet.

It materialises every weight tensor, so it is slow and large; nothing is served with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SumWindows = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``sum_windows``, or another function of its arguments."""


def sum_windows(
    values: Tensor, weights: Tensor, row_starts: Tensor, column_starts: Tensor
) -> Tensor:
    """Sum every pixel's window of the values with the pixel's weights.

    Args:
        values: (B, C, H, W), split over the G groups.
        weights: of each pixel, (B, G, H, W, K, K).
        row_starts: first row of each row's windows, (H,).
        column_starts: first column of each column's windows, (W,).

    Returns:
        (B, C, H, W).
    """
    kernel_size = weights.shape[-1]
    windows = values.unfold(2, kernel_size, 1).unfold(3, kernel_size, 1)
    windows = windows.index_select(2, row_starts).index_select(3, column_starts)
    windows = windows.unflatten(1, (weights.shape[1], -1))  # (B, G, C', H, W, K, K)
    summed: Tensor = (weights[:, :, None] * windows).sum(dim=(-2, -1))  # (B, G, C', H, W)
    return summed.flatten(1, 2)


def context_mixing_reference(
    values: Tensor,
    queries: Tensor,
    keys: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
    small_position_bias: Tensor,
    large_position_bias: Tensor,
    *,
    sum_windows: SumWindows = sum_windows,
) -> Tensor:
    """Aggregate every pixel's neighbourhood with weights made from the pooled context.

    The first half of the channels is aggregated over a small window, the second over a large one;
    each half is split over G groups. A window that would leave the map slides back inside.

    Args:
        values: features to aggregate, (B, C, H, W); H and W at least the large kernel K.
        queries: one scaled vector per pixel, (B, Q, H, W), split over the G groups.
        keys: one vector per context cell, (B, Q, S, S).
        mix_weight: maps the affinity to kernel logits, (k*k + K*K, S*S).
        mix_bias: added to the kernel logits, (k*k + K*K,).
        small_position_bias: by relative position, (G, 2k - 1, 2k - 1).
        large_position_bias: the same for the large kernel, (G, 2K - 1, 2K - 1).
        sum_windows: sums the windows.

    Returns:
        Aggregated features, (B, C, H, W).

    Source: OverLoCK (arXiv:2502.20087), ContMix.
    """
    batch, _, height, width = values.shape
    groups = small_position_bias.shape[0]
    queries = queries.view(batch, groups, -1, height * width)
    keys = keys.reshape(batch, groups, queries.shape[2], -1)
    affinity = torch.einsum("bgcn,bgcl->bgnl", queries, keys)
    logits = (affinity @ mix_weight.T + mix_bias).view(batch, groups, height, width, -1)

    small_taps = kernel_size_of(small_position_bias) ** 2
    small_logits, large_logits = logits.split([small_taps, logits.shape[-1] - small_taps], dim=-1)
    small_values, large_values = values.chunk(2, dim=1)
    small = _aggregate(small_values, small_logits, small_position_bias, sum_windows)
    large = _aggregate(large_values, large_logits, large_position_bias, sum_windows)
    return torch.cat((small, large), dim=1)


def kernel_size_of(position_bias: Tensor) -> int:
    """Return K of a (G, 2K - 1, 2K - 1) table."""
    return (position_bias.shape[-1] + 1) // 2


def window_starts(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """Return the first row (or column) of every pixel's window, (size,) int64."""
    positions = torch.arange(size, device=device)
    return (positions - kernel_size // 2).clamp(0, size - kernel_size)


def _aggregate(
    values: Tensor, logits: Tensor, position_bias: Tensor, sum_windows: SumWindows
) -> Tensor:
    """Softmax the biased logits (B, G, H, W, K*K) and sum the windows of ``values`` with them."""
    height, width = values.shape[2:]
    kernel_size = kernel_size_of(position_bias)
    row_starts = window_starts(height, kernel_size, values.device)
    column_starts = window_starts(width, kernel_size, values.device)
    weights = (logits + _bias_per_pixel(position_bias, row_starts, column_starts)).softmax(dim=-1)
    weights = weights.unflatten(-1, (kernel_size, kernel_size))
    return sum_windows(values, weights, row_starts, column_starts)


def _bias_per_pixel(position_bias: Tensor, row_starts: Tensor, column_starts: Tensor) -> Tensor:
    """Look up bias[start + tap - position + K - 1] on both axes: (G, H, W, K*K)."""
    kernel_size = kernel_size_of(position_bias)
    taps = torch.arange(kernel_size, device=position_bias.device)
    rows, columns = (
        starts[:, None]
        + taps
        - torch.arange(len(starts), device=starts.device)[:, None]
        + (kernel_size - 1)
        for starts in (row_starts, column_starts)
    )
    bias = position_bias[:, rows[:, None, :, None], columns[None, :, None, :]]
    return bias.flatten(-2)  # (G, H, W, K, K) -> (G, H, W, K*K)
