"""ContMix for inference in operators that every runtime has, for networks that are exported.

The tiles of ``model.kernels.context_mixing`` write weights along diagonals in place, by strides,
which no exchange format has. Here a pixel's weights are spread over the K rows of the map that its
window lies in, by padding and reshaping, and each row of pixels is a product with the K rows that
its windows share. A weight is multiplied with the whole width of the map instead of the window's,
but no window is copied for each pixel: of the values only K copies exist, not K * K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.context_mixing_reference import window_starts


def context_mixing_rows(
    values: Tensor,
    queries: Tensor,
    virtual_keys: Tensor,
    small_bias: Tensor,
    large_bias: Tensor,
) -> Tensor:
    """Aggregate every pixel's neighbourhood with weights made from the pooled context.

    Arguments, result and limits are those of ``context_mixing``, but the result is contiguous;
    equal to it up to rounding.
    """
    small_keys, large_keys = virtual_keys.split([small_bias.shape[-1], large_bias.shape[-1]], dim=2)
    small_values, large_values = values.chunk(2, dim=1)
    small = _aggregate(small_values, queries, small_keys, small_bias)
    large = _aggregate(large_values, queries, large_keys, large_bias)
    return torch.cat((small, large), dim=1)


def _aggregate(values: Tensor, queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Aggregate (B, C', H, W) for one kernel size."""
    groups, kernel_size = bias.shape[:2]
    height = values.shape[2]
    row_starts = window_starts(height, kernel_size, values.device)
    weights = _weights(queries.unflatten(1, (groups, -1)), keys, bias, row_starts)
    weights = _spread_over_rows(weights, kernel_size)  # (B, G, H, W, K*W)
    pixels = values.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2)  # (B, G, H, W, C')
    taps = torch.arange(kernel_size, device=values.device)
    rows = (row_starts[:, None] + taps).flatten()
    # (B, G, H*K, W, C') -> (B, G, H, K*W, C'): the rows that a row's windows lie in
    windows = pixels.index_select(2, rows).unflatten(2, (height, kernel_size)).flatten(3, 4)
    mixed: Tensor = weights @ windows  # (B, G, H, W, C')
    return mixed.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _weights(queries: Tensor, keys: Tensor, bias: Tensor, row_starts: Tensor) -> Tensor:
    """Return the weights of every pixel's window: queries (B, G, D, H, W) -> (B, G, H, W, K*K)."""
    height, width = queries.shape[3:]
    column_starts = window_starts(width, bias.shape[1], queries.device)
    own_rows = torch.arange(height, device=queries.device) - row_starts
    own_columns = torch.arange(width, device=queries.device) - column_starts
    bias = bias.index_select(1, own_rows).index_select(2, own_columns)  # (G, H, W, K*K)
    logits = queries.flatten(3).transpose(2, 3) @ keys.transpose(2, 3)  # (B, G, H*W, K*K)
    biased: Tensor = logits.unflatten(2, (height, width)) + bias
    return biased.softmax(dim=-1)


def _spread_over_rows(weights: Tensor, kernel_size: int) -> Tensor:
    """Write every pixel's weights where its window lies in K whole rows of the map.

    (B, G, H, W, K*K) -> (B, G, H, W, K*W), zero outside of the window.
    """
    width = weights.shape[3]
    last = width - kernel_size  # start of the last window
    if last == 0:
        return weights
    half = kernel_size // 2
    weights = weights.unflatten(-1, (kernel_size, kernel_size))
    # The windows of the columns on the left start at 0, those on the right at `last`, and the
    # ones between at 1, 2, ...
    left, between, right = weights.split([half + 1, last - 1, half + 1], dim=3)
    parts = [F.pad(left, (0, last)).flatten(-2)]
    if last > 1:
        parts.append(_one_further_each(F.pad(between, (1, last - 1)).flatten(-2)))
    parts.append(F.pad(right, (last, 0)).flatten(-2))
    return torch.cat(parts, dim=3)


def _one_further_each(rows: Tensor) -> Tensor:
    """Move row n of (..., N, U) by n places to the right; zeros fall off its end."""
    count, size = rows.shape[-2:]
    # With one place more in each row, and read again in rows of U, each begins one place later.
    longer = F.pad(rows, (0, 1)).flatten(-2)
    moved: Tensor = longer[..., : count * size].unflatten(-1, (count, size))
    return moved
