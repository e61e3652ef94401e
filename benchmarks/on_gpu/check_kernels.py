"""Comparison of the kernels with the reference: odd sizes, every dtype, both layouts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from benchmarks.on_gpu.problems import DepthwiseProblem, MixingProblem, of_network
from model.kernels.context_mixing import Implementation as MixingImplementation
from model.kernels.context_mixing import context_mixing
from model.kernels.large_depthwise import (
    Implementation,
    channel_sums,
    large_depthwise_reference,
    large_depthwise_with_sums,
    triton_tiles,
)
from model.kernels.squeeze_excite import squeeze_excite_gates

DTYPES = (torch.bfloat16, torch.float32, torch.float16)  # the most important first

FLOAT32_BOUND = 2e-5
"""Error of sums of some hundred terms, where three TF32 products may stand for one of float32."""

ROUNDINGS = {"tiles": 4}
"""Factors on the bound of a short dtype, half its eps by norms: weights and result are rounded. The
tiles round every logit too, which adds to the error of their weights."""

SUMS_BOUND = 1e-5
"""Error of the sums, which are float32 for every dtype and taken over the stored result."""

ODD_MIXING = [
    # each variant's head widths; a window as large as the map, one larger, wide and high maps
    MixingProblem(1, 56, 2, 7, 7, 7),
    MixingProblem(3, 28, 1, 8, 7, 7),
    MixingProblem(1, 32, 1, 14, 15, 13),
    MixingProblem(2, 40, 2, 13, 29, 13),
    MixingProblem(1, 32, 2, 37, 13, 13),
    MixingProblem(1, 96, 1, 6, 33, 5),
]
ODD_DEPTHWISE = [
    DepthwiseProblem(1, 5, 9, 7, 17),
    DepthwiseProblem(3, 56, 11, 13, 15),
    DepthwiseProblem(1, 17, 33, 2, 13),
    DepthwiseProblem(2, 112, 1, 40, 7),
]
EXCITED_CHANNELS = (56, 336, 512, 576)
"""Not powers of two; the largest of T and of all variants; hidden channels with a partial block."""


def rows(bench: Bench) -> Iterator[Row]:
    mixing, depthwise = ODD_MIXING[:2], ODD_DEPTHWISE[:2]
    if not bench.quick:
        mixing, depthwise = list(ODD_MIXING), list(ODD_DEPTHWISE)
        for name, size in (("overlock_t", (224, 224)), ("overlock_s", (224, 320))):
            more_mixing, more_depthwise = of_network(name, 2, size)
            mixing, depthwise = mixing + more_mixing, depthwise + more_depthwise
    for dtype in DTYPES:
        for problem in mixing:
            for layout in (torch.channels_last, torch.contiguous_format):
                yield _mixing_row(bench, problem, dtype, layout)
        for convolution in depthwise:
            yield from _depthwise_rows(bench, convolution, dtype)
        for channels in EXCITED_CHANNELS:
            yield _excitation_row(bench, channels, dtype)


def _mixing_row(
    bench: Bench, problem: MixingProblem, dtype: torch.dtype, layout: torch.memory_format
) -> Row:
    arguments = problem.arguments(dtype, bench.device, layout)
    want = context_mixing(*(part.double() for part in arguments), implementation="tiles")
    implementation: MixingImplementation = "triton" if bench.is_cuda else "tiles"
    got = context_mixing(*arguments, implementation=implementation)
    error = relative_error(got, want)
    return {
        "kernel": "ContMix",
        "problem": str(problem),
        "dtype": str(dtype),
        "layout": str(layout),
        "implementation": implementation,
        "error": error,
        "verdict": verdict(error, _bound(dtype, implementation)),
    }


def _depthwise_rows(bench: Bench, problem: DepthwiseProblem, dtype: torch.dtype) -> Iterator[Row]:
    features, weight, bias, taps = problem.arguments(dtype, bench.device)
    # On the CPU: the reference depends on no library of the device.
    want = large_depthwise_reference(*(part.double().cpu() for part in (features, weight, bias)))
    tiles = triton_tiles(dtype) if bench.is_cuda else ()
    implementations: tuple[Implementation, ...] = ("plain", *tiles)
    for implementation in implementations:
        got, sums = large_depthwise_with_sums(features, weight, bias, taps, implementation)
        again, sums_again = large_depthwise_with_sums(features, weight, bias, taps, implementation)
        error = relative_error(got, want)
        sums_error = relative_error(sums, channel_sums(got.double()))
        same = torch.equal(got, again) and torch.equal(sums, sums_again)
        right = (
            verdict(error, _bound(dtype, implementation)) == verdict(sums_error, SUMS_BOUND) == "ok"
        )
        yield {
            "kernel": "depthwise",
            "problem": str(problem),
            "dtype": str(dtype),
            "layout": "torch.channels_last",
            "implementation": implementation,
            "error": max(error, sums_error),
            "verdict": "ok" if right and same else "WRONG",
        }


def _excitation_row(bench: Bench, channels: int, dtype: torch.dtype) -> Row:
    generator = torch.Generator().manual_seed(channels)
    hidden_channels, pixels = max(16, channels // 8), 49

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(bench.device)

    sums = pixels * normal(3, channels)
    reduce = normal(hidden_channels, channels) / channels**0.5
    expand = normal(hidden_channels, channels) / hidden_channels**0.5
    weights = (reduce, normal(hidden_channels), expand, normal(channels))
    short = [part.to(dtype) for part in weights]
    want = squeeze_excite_gates(sums.double(), pixels, *(part.double() for part in short))
    error = relative_error(squeeze_excite_gates(sums, pixels, *short), want)
    implementation = "triton" if bench.is_cuda else "plain"
    return {
        "kernel": "squeeze-excite",
        "problem": f"{channels} channels, {hidden_channels} hidden ones, 3 images",
        "dtype": str(dtype),
        "layout": "",
        "implementation": implementation,
        "error": error,
        "verdict": verdict(error, _bound(dtype, implementation)),
    }


def _bound(dtype: torch.dtype, implementation: str) -> float:
    if dtype == torch.float32:
        return FLOAT32_BOUND
    return ROUNDINGS.get(implementation, 1) * torch.finfo(dtype).eps / 2
