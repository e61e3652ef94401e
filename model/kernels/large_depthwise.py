"""Depthwise convolutions with large kernels, optionally with the sums that squeeze-excite needs.

Stride 1, the map keeps its size. "plain" is PyTorch's own convolution (cuDNN's on a GPU); the
others are tiles of Triton kernels for maps in the channels_last memory format: two 16-bit ones on
the matrix units, and a float32 one. The fastest depends on shape and device, and is measured: see
``Autotuner``.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.gpu.autotune import Autotuner, Problem
from model.kernels.gpu.depthwise_layout import MAX_PAIRED_KERNEL, laid_out_shape
from model.kernels.gpu.selection import selected
from model.kernels.gpu.support import TRITON_INSTALLED

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.depthwise_16bit import depthwise_matrix_triton
    from model.kernels.gpu.depthwise_float32 import large_depthwise_triton
    from model.kernels.gpu.depthwise_paired import depthwise_paired_triton

MatrixTile = Literal["few", "many"]
PairedTile = Literal["few_paired", "many_paired"]
FloatTile = Literal["small", "large"]
Implementation = Literal["plain", "few", "many", "few_paired", "many_paired", "small", "large"]
MATRIX_TILES: tuple[MatrixTile, ...] = get_args(MatrixTile)
PAIRED_TILES: tuple[PairedTile, ...] = get_args(PairedTile)
FLOAT_TILES: tuple[FloatTile, ...] = get_args(FloatTile)

Choice = Implementation | Autotuner
"""An explicit implementation, or a table of the fastest; "plain" solves unmeasured problems."""


def triton_tiles(dtype: torch.dtype, channels: int, kernel_size: int) -> tuple[Implementation, ...]:
    """Return the tiles of the Triton kernels for a dtype, a number of channels and a kernel."""
    if dtype.itemsize != 2:
        return FLOAT_TILES
    paired = channels % 2 == 0 and kernel_size <= MAX_PAIRED_KERNEL
    return (*MATRIX_TILES, *PAIRED_TILES) if paired else MATRIX_TILES


def large_depthwise(
    features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> Tensor:
    """Convolve every channel with a kernel of its own.

    Args:
        features: (B, C, H, W).
        weight: in the features' dtype, (C, 1, K, K), odd K.
        bias: in the features' dtype, (C,).
        taps: ``lay_out(weight)``, read by the Triton kernels.
        choice: the implementation.

    Returns:
        (B, C, H, W), in the dtype and memory format of ``features``.

    Raises:
        ValueError: if shapes are inconsistent, or the requested implementation does not run here.
    """
    _check_shapes(features, weight, bias, taps)
    implementation = _implementation(choice, features, weight, bias, taps, with_sums=False)
    if implementation == "plain":
        return large_depthwise_reference(features, weight, bias)
    convolved, _ = _run_triton(features, weight, taps, bias, implementation, with_sums=False)
    return convolved


def large_depthwise_with_sums(
    features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> tuple[Tensor, Tensor]:
    """Convolve as ``large_depthwise`` does, and sum each image's channels in the same pass.

    Returns:
        The convolved features, (B, C, H, W), and partial sums over their pixels, (B, parts, C), at
        least in float32 and the same at every run.
    """
    _check_shapes(features, weight, bias, taps)
    implementation = _implementation(choice, features, weight, bias, taps, with_sums=True)
    if implementation == "plain":
        convolved = large_depthwise_reference(features, weight, bias)
        sum_type = torch.promote_types(convolved.dtype, torch.float32)
        return convolved, convolved.sum(dim=(2, 3), dtype=sum_type).unsqueeze(1)
    return _run_triton(features, weight, taps, bias, implementation, with_sums=True)


def _run_triton(
    features: Tensor, weight: Tensor, taps: Tensor, bias: Tensor, tile: str, *, with_sums: bool
) -> tuple[Tensor, Tensor]:
    if tile in PAIRED_TILES:
        result = depthwise_paired_triton(features, weight.contiguous(), bias, with_sums, tile)
    elif tile in MATRIX_TILES:
        result = depthwise_matrix_triton(features, taps, bias, with_sums, tile)
    else:
        result = large_depthwise_triton(features, taps, bias, with_sums, tile)
    return cast("tuple[Tensor, Tensor]", result)


def depthwise_problem(features: Tensor, kernel_size: int, *, with_sums: bool) -> Problem:
    """Return the key of this convolution in an ``Autotuner``.

    The key distinguishes only one image from several: one compiled graph, with one implementation,
    serves all larger batches.
    """
    operation = "large_depthwise_with_sums" if with_sums else "large_depthwise"
    images = "one" if features.shape[0] == 1 else "many"
    shape = features.shape[1:]
    return (operation, images, *shape, kernel_size, features.dtype, features.device)


def _implementation(
    choice: Choice,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    taps: Tensor,
    *,
    with_sums: bool,
) -> str:
    channels, kernel_size = features.shape[1], weight.shape[-1]
    problem = depthwise_problem(features, kernel_size, with_sums=with_sums)
    implementation = selected(choice, problem, (features, weight, taps, bias), features)
    tiles = triton_tiles(features.dtype, channels, kernel_size)
    if implementation != "plain" and implementation not in tiles:
        sizes = f"{channels} channels and {kernel_size}x{kernel_size} taps"
        raise ValueError(f"{implementation!r} is not a tile for {features.dtype}, {sizes}.")
    return implementation


def _check_shapes(features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor) -> None:
    channels, kernel_size = features.shape[1], weight.shape[-1]
    if weight.shape != (channels, 1, kernel_size, kernel_size) or kernel_size % 2 == 0:
        raise ValueError(
            f"A weight of {channels} channels is ({channels}, 1, K, K) with an odd K, "
            f"not {tuple(weight.shape)}."
        )
    laid_out = laid_out_shape(channels, kernel_size, weight.dtype)
    if taps.shape != laid_out:
        raise ValueError(f"Taps of that weight are {laid_out}, not {tuple(taps.shape)}.")
    if bias.shape != (channels,):
        raise ValueError(f"The bias of {channels} channels is not {tuple(bias.shape)}.")


def large_depthwise_reference(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel of (B, C, H, W) with its kernel (C, 1, K, K), and add ``bias`` (C,).

    The map keeps its size; it is padded with zeros.
    """
    return F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2, groups=features.shape[1])
