"""CPU kernels for the context in a dynamic block; maps and dtypes as in ``model.kernels.cpu.ops``.

For inference only: no gradient, no torch.compile.
"""

from __future__ import annotations

from torch import Tensor

from model.kernels.cpu.launch import launch
from model.kernels.cpu.ops import is_bfloat16


def join_context(
    features: Tensor,
    context: Tensor,
    initial_context: Tensor | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """Lay the context behind the features, scaled and with the initial one added.

    Maps may be channels of a wider one, or in another memory format, which copies them.

    Args:
        features: (B, H, W, C).
        context: (B, H, W, C').
        initial_context: the same; None together with the scales.
        scales: the sum's bias, the initial context's scale and the context's, (3, C') float32.

    Returns:
        (B, H, W, C + C').
    """
    assert (initial_context is None) == (scales is None)
    features, context = _as_channels(features), _as_channels(context)
    initial_context = context if initial_context is None else _as_channels(initial_context)
    assert features.shape[:3] == context.shape[:3] == initial_context.shape[:3]
    assert {features.dtype} == {context.dtype, initial_context.dtype}
    batch, height, width, channels = features.shape
    result = features.new_empty((batch, height, width, channels + context.shape[3]))
    launch(
        "overlock_join_context",
        features.data_ptr(),
        context.data_ptr(),
        initial_context.data_ptr(),
        None if scales is None else scales.data_ptr(),
        result.data_ptr(),
        features.stride(2),
        context.stride(2),
        initial_context.stride(2),
        channels,
        context.shape[3],
        batch * height * width,
        is_bfloat16(features),
    )
    return result


def pool_to_grid(pixels: Tensor, side: int) -> Tensor:
    """Average the pixels under every cell of a grid, as ``adaptive_avg_pool2d`` does.

    Args:
        pixels: (B, H, W, C), as ``join_context`` takes it.
        side: S, cells.

    Returns:
        (B, S, S, C).
    """
    pixels = _as_channels(pixels)
    batch, height, width, channels = pixels.shape
    result = pixels.new_empty((batch, side, side, channels))
    launch(
        "overlock_pool",
        pixels.data_ptr(),
        result.data_ptr(),
        pixels.stride(2),
        batch,
        height,
        width,
        channels,
        side,
        is_bfloat16(pixels),
    )
    return result


def mix_keys(mixture: Tensor, keys: Tensor, groups: int) -> Tensor:
    """Mix the keys of the grid's cells to a virtual key for every tap; sums are float32.

    Args:
        mixture: (taps, S*S) float32.
        keys: (B, S, S, G*D).
        groups: G.

    Returns:
        (B, G, taps, D).
    """
    batch, height, width, channels = keys.shape
    assert keys.is_contiguous()
    assert mixture.is_contiguous()
    assert mixture.shape[1] == height * width
    result = keys.new_empty((batch, groups, len(mixture), channels // groups))
    launch(
        "overlock_mix_keys",
        mixture.data_ptr(),
        keys.data_ptr(),
        result.data_ptr(),
        batch,
        height * width,
        channels,
        groups,
        len(mixture),
        is_bfloat16(keys),
    )
    return result


def _as_channels(pixels: Tensor) -> Tensor:
    """Return the map itself if its pixels lie in order, each with its channels together."""
    _, height, width, _ = pixels.shape
    step = pixels.stride(2)
    if pixels.stride() == (height * width * step, width * step, step, 1):
        return pixels
    return pixels.contiguous()
