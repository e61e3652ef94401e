"""Comparison of our kernels with float64, at odd sizes, in the dtype that is served.

The references are computed on the device, by unfold and plain products: no library's convolution
and no code of the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.on_gpu.bench import Bench, Row, relative_error
from benchmarks.on_gpu.problems import DepthwiseProblem, MixingProblem
from model.kernels.activated_depthwise import activated_depthwise, depthwise_gelu, pixel_taps
from model.kernels.context_mixing import Implementation as MixingImplementation
from model.kernels.context_mixing import context_mixing
from model.kernels.context_mixing_reference import window_starts
from model.kernels.gpu.mixing_orders import triton_orders
from model.kernels.gpu.selection import Implementation as MapImplementation
from model.kernels.large_depthwise import Implementation, large_depthwise_with_sums, triton_tiles
from model.kernels.position_norm import position_norm
from model.kernels.response_norm import response_norm
from model.kernels.squeeze_excite import squeeze_excite

MAP_ROUNDINGS = {"plain": 3, "few": 1, "many": 1}
"""Factors on the bound of fused steps: PyTorch rounds between them."""

FLOAT32_BOUND = 2e-5
"""Error of sums of some hundred terms, where three TF32 products may stand for one of float32."""

ROUNDINGS = {"tiles": 4}
"""Factors on the bound of a short dtype, half its eps by norms: weights and result are rounded. The
tiles round every logit too, which adds to the error of their weights."""

SUMS_BOUND = 1e-5
"""Error of the sums, which are float32 for every dtype and taken over the stored result."""

MIXING = (
    # a window as large as the map, odd head widths; wide and high maps, two windows side by side
    MixingProblem(1, 56, 2, 7, 7, 7),
    MixingProblem(2, 40, 2, 13, 29, 13),
    MixingProblem(1, 32, 2, 37, 14, 13),
)
DEPTHWISE = (
    DepthwiseProblem(1, 5, 9, 7, 17),
    DepthwiseProblem(3, 56, 11, 13, 15),
    DepthwiseProblem(2, 112, 1, 40, 7),
)
SCALED_CHANNELS = (56, 336, 576)
"""Not powers of two; 576 channels have hidden channels with a partial block."""

MAP_CHANNELS = (5, 112, 640)
"""Of maps of 11x13 pixels that are convolved by 3x3: fewer than a vector, and no powers of two."""


def rows(bench: Bench) -> Iterator[Row]:
    dtype = bench.fast_dtype
    for channels in SCALED_CHANNELS:
        yield from _scaled_rows(bench, channels, dtype)
    for convolution in DEPTHWISE:
        yield from _depthwise_rows(bench, convolution, dtype)
    for channels in MAP_CHANNELS:
        yield from _map_rows(bench, channels, dtype)
    for problem in MIXING:
        yield from _mixing_rows(bench, problem, dtype)


def _row(
    what: str, problem: object, dtype: torch.dtype, implementation: str, error: float, *, ok: bool
) -> Row:
    return {
        "what": what,
        "problem": str(problem),
        "dtype": str(dtype),
        "implementation": implementation,
        "error": error,
        "verdict": "ok" if ok else "WRONG",
    }


def _scaled_rows(bench: Bench, channels: int, dtype: torch.dtype) -> Iterator[Row]:
    """Compare squeeze-excite and the response norm, of maps and of weights, by either's sums."""
    generator = torch.Generator().manual_seed(channels)
    hidden_channels, pixels = max(16, channels // 8), 49

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(bench.device)

    features, gate, weight = (normal(n, pixels, channels).to(dtype) for n in (3, 3, 1))
    sums, squares = normal(3, 5, channels), normal(3, 5, channels).square()
    reduce = (normal(hidden_channels, channels) / channels**0.5).to(dtype)
    expand = (normal(hidden_channels, channels) / hidden_channels**0.5).to(dtype)
    reduce_bias, expand_bias = normal(hidden_channels).to(dtype), normal(channels).to(dtype)
    gamma, beta = normal(2, channels).to(dtype) / 4
    layers = (reduce, reduce_bias, expand, expand_bias)
    problem = f"{channels} channels, {hidden_channels} hidden ones, 3 images"
    tiles: tuple[MapImplementation, ...] = ("few", "many") if bench.is_cuda else ("plain",)
    for tile in tiles:
        for rows, own_sums, own_squares, factor in (
            (features, sums, squares, None),
            (weight, sums, squares, None),
            (features, None, None, gate),
        ):
            totals = (rows if own_sums is None else own_sums).double().sum(dim=1, keepdim=True)
            hidden = totals / pixels @ reduce.double().T + reduce_bias.double()
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2  # GELU
            opening = hidden @ expand.double() + expand_bias.double()
            want = rows.double() / (1 + torch.exp(-opening))
            if factor is not None:
                want = want * factor.double() / (1 + torch.exp(-factor.double()))
            got = squeeze_excite(rows, own_sums, pixels, layers, tile, factor)
            error = relative_error(got, want)
            ok = error <= MAP_ROUNDINGS[tile] * _bound(dtype, tile)
            yield _row("squeeze-excite", problem, dtype, tile, error, ok=ok)

            energy = rows.double().square() if own_squares is None else own_squares.double()
            energy = energy.sum(dim=1, keepdim=True).sqrt()
            relative = energy / (energy.mean(dim=2, keepdim=True) + 1e-6)
            want = rows.double() * (1 + gamma.double() * relative) + beta.double()
            got = response_norm(rows, own_squares, gamma, beta, tile)
            error = relative_error(got, want)
            ok = error <= MAP_ROUNDINGS[tile] * _bound(dtype, tile)
            yield _row("response norm", problem, dtype, tile, error, ok=ok)


def _depthwise_rows(bench: Bench, problem: DepthwiseProblem, dtype: torch.dtype) -> Iterator[Row]:
    features, weight, bias, taps = problem.arguments(dtype, bench.device)
    want = unfolded_depthwise(features.double(), weight.double(), bias.double())
    implementations: tuple[Implementation, ...] = ("plain",)
    if bench.is_cuda:
        implementations = triton_tiles(dtype, problem.channels, problem.kernel_size)
    for implementation in implementations:
        got, sums = large_depthwise_with_sums(features, weight, bias, taps, implementation)
        again, sums_again = large_depthwise_with_sums(features, weight, bias, taps, implementation)
        error = relative_error(got, want)
        sums_error = relative_error(sums.sum(dim=1), got.double().sum(dim=(2, 3)))
        ok = error <= _bound(dtype, implementation) and sums_error <= SUMS_BOUND
        same = torch.equal(got, again) and torch.equal(sums, sums_again)
        error = max(error, sums_error)
        yield _row("depthwise", problem, dtype, implementation, error, ok=ok and same)


def _map_rows(bench: Bench, channels: int, dtype: torch.dtype) -> Iterator[Row]:
    """Compare the 3x3 convolutions that are fused with what surrounds them."""
    generator = torch.Generator().manual_seed(channels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(bench.device, dtype)

    features = normal(3, channels, 11, 13).contiguous(memory_format=torch.channels_last)
    weight, bias, first, second = normal(channels, 1, 3, 3) / 3, *map(normal, [channels] * 3)
    taps = pixel_taps(weight)
    exact = [each.double() for each in (features, weight, bias, first, second)]
    moved = exact[0] + exact[3][:, None, None]
    activated = moved * (1 + torch.erf(moved / math.sqrt(2))) / 2  # GELU
    want_activated = unfolded_depthwise(activated, exact[1], exact[2])
    want_positioned = unfolded_depthwise(*exact[:3])
    want_gelu = want_positioned * (1 + torch.erf(want_positioned / math.sqrt(2))) / 2
    centred = want_positioned - want_positioned.mean(dim=1, keepdim=True)
    deviation = (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    want_norm = centred / deviation * exact[3][:, None, None] + exact[4][:, None, None]
    want_positioned = want_positioned * exact[4][:, None, None] + exact[3][:, None, None]
    want_positioned[:, -2:] += exact[0][:, :2] * exact[3][:2, None, None]
    problem = f"3 images, {channels} channels, 11x13"
    implementations: tuple[MapImplementation, ...] = (
        ("few", "many") if bench.is_cuda else ("plain",)
    )
    for tile in implementations:
        got, squares = activated_depthwise(features, first, weight, bias, taps, tile)
        squares_error = relative_error(squares.sum(dim=1), got.double().square().sum(dim=(2, 3)))
        positioned, norm = position_norm(
            features,
            weight,
            bias,
            taps,
            *(first, second, second, first),
            tile,
            features[:, :2],
            first[:2],
        )
        gelu_behind = depthwise_gelu(features, weight, bias, taps, tile)
        for what, result, want in (
            ("activated depthwise", got, want_activated),
            ("depthwise and GELU", gelu_behind, want_gelu),
            ("position convolution", positioned, want_positioned),
            ("position norm", norm, want_norm),
        ):
            error = relative_error(result, want)
            ok = error <= MAP_ROUNDINGS[tile] * _bound(dtype, tile) and squares_error <= SUMS_BOUND
            yield _row(what, problem, dtype, tile, error, ok=ok)


def _mixing_rows(bench: Bench, problem: MixingProblem, dtype: torch.dtype) -> Iterator[Row]:
    arguments = problem.arguments(dtype, bench.device, torch.channels_last)
    want = unfolded_mixing(*(part.double() for part in arguments))
    implementations: tuple[MixingImplementation, ...] = ("tiles",)
    if bench.is_cuda:
        implementations = triton_orders(dtype, problem.kernel_size, problem.width)
    for implementation in implementations:
        error = relative_error(context_mixing(*arguments, implementation=implementation), want)
        ok = error <= _bound(dtype, implementation)
        yield _row("ContMix", problem, dtype, implementation, error, ok=ok)


def unfolded_depthwise(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve (B, C, H, W) with (C, 1, K, K), padded with zeros, from its unfolded windows."""
    batch, channels, height, width = features.shape
    side = weight.shape[-1]
    windows = F.unfold(features.contiguous(), side, padding=side // 2)  # (B, C*K*K, H*W)
    windows = windows.view(batch, channels, side * side, height * width)
    sums = torch.einsum("bctn,ct->bcn", windows, weight.flatten(1)) + bias[:, None]
    return sums.view(batch, channels, height, width)


def unfolded_mixing(
    values: Tensor, queries: Tensor, virtual_keys: Tensor, small_bias: Tensor, large_bias: Tensor
) -> Tensor:
    """Do as ``model.kernels.context_mixing.context_mixing``, from unfolded windows."""
    keys = virtual_keys.split([small_bias.shape[-1], large_bias.shape[-1]], dim=2)
    parts = zip(values.chunk(2, dim=1), keys, (small_bias, large_bias), strict=True)
    return torch.cat([_aggregate(half, queries, *own) for half, *own in parts], dim=1)


def _aggregate(values: Tensor, queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    batch, channels, height, width = values.shape
    groups, side = bias.shape[:2]
    rows = window_starts(height, side, values.device)
    columns = window_starts(width, side, values.device)
    row_offsets = torch.arange(height, device=values.device) - rows
    column_offsets = torch.arange(width, device=values.device) - columns
    queries = queries.reshape(batch, groups, -1, height, width)
    logits = torch.einsum("bgdhw,bgtd->bghwt", queries, keys)
    weights = (logits + bias[:, row_offsets][:, :, column_offsets]).softmax(dim=-1)
    windows = values.unfold(2, side, 1).unfold(3, side, 1)
    windows = windows.index_select(2, rows).index_select(3, columns)  # (B, C', H, W, K, K)
    windows = windows.reshape(batch, groups, channels // groups, height, width, side * side)
    mixed = torch.einsum("bghwt,bgchwt->bgchw", weights, windows)
    return mixed.reshape(batch, channels, height, width)


def _bound(dtype: torch.dtype, implementation: str) -> float:
    if dtype == torch.float32:
        return FLOAT32_BOUND
    return ROUNDINGS.get(implementation, 1) * torch.finfo(dtype).eps / 2
