# ruff: noqa: N803, N806 - what is constant in a compilation is upper case, as Triton has it
"""One tile of ContMix: logits, a softmax and the aggregation of 16 pixels, in two orders.

All pixels of a tile have the same window rows; their window columns differ by at most 15. For each
tap row

    logits  = queries (16, D) . keys of the tap row (D, K) + bias        matrix product
    weights = exp(logits - maximum)
    spread  = weights moved to where each pixel's window lies in the     gather within the warp
              union of the tile's windows (16, 16 + K - 1)
    mixed  += spread . values of one map row under the union             matrix product

With a running softmax each tap row corrects what the rows before it made, as attention does over
its keys. With one softmax all K rows of logits stay in registers, and the rows after it wait for
nothing of each other. Where the windows have at most two different first columns, as on a
classifier's maps, which are hardly wider than a window, nothing is gathered: the weights of the
pixels of each first column, and zeros for the others, are multiplied with that window.
"""

from __future__ import annotations

import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _weights_at_once(  # type: ignore[no-untyped-def]
    queries, keys, keys_t, bias, is_key, is_tap, KERNEL: tl.constexpr
):
    """Return the weights of each tap row, (TILE, TAPS), and their sum of all rows, (TILE,)."""
    LOG2_E: tl.constexpr = 1.4426950408889634
    logits = ()
    for tap_row in tl.static_range(KERNEL):
        row_bias = tl.load(bias + tap_row * KERNEL, mask=is_tap, other=float("-inf"))
        row_keys = tl.load(keys + tap_row * KERNEL * keys_t, mask=is_key, other=0.0)
        row_logits = tl.dot(queries, row_keys, input_precision="tf32x3") + row_bias
        logits += (row_logits,)  # type: ignore[assignment]
    largest = logits[0]  # type: ignore[misc]
    for tap_row in tl.static_range(1, KERNEL):
        largest = tl.maximum(largest, logits[tap_row])
    maximum = tl.max(largest, axis=1)[:, None] * LOG2_E
    weights = ()
    for tap_row in tl.static_range(KERNEL):
        row_weights = tl.exp2(logits[tap_row] * LOG2_E - maximum)
        weights += (row_weights,)  # type: ignore[assignment]
    sums = weights[0]  # type: ignore[misc]
    for tap_row in tl.static_range(1, KERNEL):
        sums += weights[tap_row]
    return weights, tl.sum(sums, axis=1)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def mix_tile(  # type: ignore[no-untyped-def]
    values,
    queries,
    keys,
    bias,
    result,
    values_strides,
    queries_strides,
    keys_t,
    result_strides,
    place,
    KERNEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    QUERY: tl.constexpr,
    PADDED: tl.constexpr,
    UNION: tl.constexpr,
    TAPS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    ONE_SOFTMAX: tl.constexpr,
    STARTS: tl.constexpr,
):
    """Mix one tile; the pointers point at its image, group and kernel size.

    Strides are a channel's, a row's and a column's. The place is the tile's row and first column,
    and the map's height and width.

    ``STARTS`` first columns of windows are told apart by products, any number, if 0, by gathering.
    """
    values_c, values_h, values_w = values_strides
    queries_c, queries_h, queries_w = queries_strides
    result_c, result_h, result_w = result_strides
    row, first_column, height, width = place
    columns = tl.minimum(first_column + tl.arange(0, TILE), width - 1)  # repeats the last pixel
    channel = tl.arange(0, PADDED)  # of values and of queries, which are as wide in OverLoCK
    tap_column = tl.arange(0, TAPS)
    is_tap = tap_column[None, :] < KERNEL

    # The windows' first row, their first columns by pixel, and the first column of their union.
    start_row = tl.minimum(tl.maximum(row - KERNEL // 2, 0), height - KERNEL)
    start_columns = tl.minimum(tl.maximum(columns - KERNEL // 2, 0), width - KERNEL)
    union_start = tl.minimum(tl.maximum(first_column - KERNEL // 2, 0), width - KERNEL)
    union_columns = union_start + tl.arange(0, UNION)
    # The tap that falls on each column of the union, (TILE, UNION); tap KERNEL weighs nothing.
    tap_on_column = union_columns[None, :] - start_columns[:, None]
    in_window = (tap_on_column >= 0) & (tap_on_column < KERNEL)
    tap_on_column = tl.where(in_window, tap_on_column, KERNEL)

    # Pointers for the first tap row.
    window_offset = (row - start_row) * KERNEL + (columns - start_columns)
    bias += window_offset[:, None] * (KERNEL * KERNEL) + tap_column[None, :]
    keys += tap_column[None, :] * keys_t + channel[:, None]
    values += start_row * values_h
    values += union_columns[:, None] * values_w + channel[None, :] * values_c
    is_key = is_tap & (channel[:, None] < QUERY)
    is_value = (union_columns[:, None] < width) & (channel[None, :] < CHANNELS)
    queries += row * queries_h
    queries += columns[:, None] * queries_w + channel[None, :] * queries_c
    tile_queries = tl.load(queries, mask=channel[None, :] < QUERY, other=0.0)

    if ONE_SOFTMAX:
        weights, total = _weights_at_once(tile_queries, keys, keys_t, bias, is_key, is_tap, KERNEL)
        mixed = tl.zeros([TILE, PADDED], tl.float32)
        for tap_row in tl.static_range(KERNEL):
            row_values = values + tap_row * values_h
            if STARTS == 0:
                row_values = tl.load(row_values, mask=is_value, other=0.0)
                spread = tl.gather(weights[tap_row], tap_on_column, axis=1)
                spread = spread.to(row_values.dtype)
                mixed = tl.dot(spread, row_values, mixed, input_precision="tf32x3")
            else:
                for start in tl.static_range(STARTS):
                    is_own = is_value & (union_columns[:, None] + start < width)
                    own = tl.load(row_values + start * values_w, mask=is_own, other=0.0)
                    chosen = start_columns[:, None] == union_start + start
                    chosen = tl.where(chosen, weights[tap_row], 0.0).to(own.dtype)
                    mixed = tl.dot(chosen, own, mixed, input_precision="tf32x3")
    else:
        LOG2_E: tl.constexpr = 1.4426950408889634
        maximum = tl.full([TILE], float("-inf"), tl.float32)
        total = tl.zeros([TILE], tl.float32)
        mixed = tl.zeros([TILE, PADDED], tl.float32)
        for tap_row in tl.range(0, KERNEL, num_stages=STAGES):
            row_bias = tl.load(bias + tap_row * KERNEL, mask=is_tap, other=float("-inf"))
            row_keys = tl.load(keys + tap_row * KERNEL * keys_t, mask=is_key, other=0.0)
            row_values = tl.load(values + tap_row * values_h, mask=is_value, other=0.0)

            logits = tl.dot(tile_queries, row_keys, input_precision="tf32x3") + row_bias
            new_maximum = tl.maximum(maximum, tl.max(logits, axis=1) * LOG2_E)
            weights = tl.exp2(logits * LOG2_E - new_maximum[:, None])  # (TILE, TAPS)
            decay = tl.exp2(maximum - new_maximum)
            total = total * decay + tl.sum(weights, axis=1)
            maximum = new_maximum

            spread = tl.gather(weights, tap_on_column, axis=1)  # (TILE, TAPS) -> (TILE, UNION)
            spread = spread.to(row_values.dtype)
            mixed = mixed * decay[:, None]
            mixed = tl.dot(spread, row_values, mixed, input_precision="tf32x3")

    tile_columns = first_column + tl.arange(0, TILE)
    tl.store(
        result + row * result_h + tile_columns[:, None] * result_w + channel[None, :] * result_c,
        (mixed / total[:, None]).to(result.dtype.element_ty),
        mask=(tile_columns[:, None] < width) & (channel[None, :] < CHANNELS),
    )
