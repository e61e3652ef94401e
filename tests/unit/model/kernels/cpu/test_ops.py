"""Every CPU kernel computes what the trained layer computes, for odd sizes and both dtypes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.backbone.layers import GlobalResponseNorm, LayerNorm2d, SqueezeExcite
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from model.kernels.cpu.ops import (
    LOG2_E,
    DepthwiseTaps,
    Excitation,
    Statistic,
    channel_statistic,
    depthwise,
    excite_,
    layer_norm,
    mix_context,
    padded_bias_windows,
    response_norm_,
)
from support.filled import filled, random_map
from support.mixing_problem import mixing_problem

pytestmark = [
    pytest.mark.skipif(
        cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
    ),
    pytest.mark.usefixtures("instructions"),
]

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCES = {
    torch.float32: 2e-6,  # of the largest value: sums of at most some hundred products
    torch.bfloat16: 2**-8,  # the result is rounded to 8 significant bits
}
STATISTIC_TOLERANCE = 1e-5  # of the largest: sums over thousands of pixels, in float32 throughout
MAPS = [
    # B, H, W, C
    (1, 1, 1, 16),
    (1, 7, 7, 20),
    (2, 14, 14, 32),
    (3, 9, 11, 84),
    (2, 5, 37, 7),
    (1, 61, 8, 48),
]


def pixels_of(shape: tuple[int, ...], dtype: torch.dtype, offset: float = 0.0) -> Tensor:
    return (random_map(*shape) + offset).to(dtype)


def as_map(pixels: Tensor) -> Tensor:
    """See (B, H, W, C) as (B, C, H, W) float64."""
    return pixels.double().permute(0, 3, 1, 2)


def assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert_close(got.double(), want, rtol=0, atol=tolerance * float(want.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9, 13, 15, 17, 19])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_depthwise_convolves(shape: tuple[int, ...], kernel_size: int, dtype: torch.dtype) -> None:
    pixels, weight, bias, want = convolution(shape, kernel_size, dtype)
    got, _ = depthwise(pixels, DepthwiseTaps.of(weight, bias, dtype))
    assert_relative(as_map(got), want, TOLERANCES[dtype])


@cache  # float64 takes longer than what is tested, and is the same for every processor
def convolution(
    shape: tuple[int, ...], kernel_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pixels, channels = pixels_of(shape, dtype), shape[-1]
    weight = (random_map(channels, 1, kernel_size, kernel_size) / kernel_size).to(dtype)
    bias = random_map(channels).float()
    want = F.conv2d(
        as_map(pixels), weight.double(), bias.double(), padding=kernel_size // 2, groups=channels
    )
    return pixels, weight, bias, want


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_depthwise_adds_its_input_activates_and_adds_up(
    shape: tuple[int, ...], statistic: Statistic, activated: bool, dtype: torch.dtype
) -> None:
    pixels, channels = pixels_of(shape, dtype), shape[-1]
    weight, bias = random_map(channels, 1, 3, 3).to(dtype), random_map(channels).float()
    taps = DepthwiseTaps.of(weight, bias, dtype, residual=True)
    got, statistics = depthwise(pixels, taps, activated=activated, statistic=statistic)
    features = as_map(pixels)
    want = features + F.conv2d(features, weight.double(), bias.double(), padding=1, groups=channels)
    want = F.gelu(want) if activated else want
    assert_relative(as_map(got), want, TOLERANCES[dtype])
    if statistic is not Statistic.NONE:
        summand = want.square() if statistic is Statistic.SQUARES else want
        assert_relative(statistics, summand.sum(dim=(2, 3)), STATISTIC_TOLERANCE)


@pytest.mark.slow
def test_a_large_map_is_convolved_in_strips_that_meet() -> None:
    shape, kernel_size = (1, 90, 300, 16), 17  # its tile would not fit the cache
    pixels = pixels_of(shape, torch.float32)
    weight, bias = random_map(16, 1, kernel_size, kernel_size).float(), torch.zeros(16)
    got, sums = depthwise(
        pixels, DepthwiseTaps.of(weight, bias, torch.float32), statistic=Statistic.SUMS
    )
    want = F.conv2d(as_map(pixels), weight.double(), padding=8, groups=16)
    assert_relative(as_map(got), want, TOLERANCES[torch.float32])
    assert_relative(sums, want.sum(dim=(2, 3)), 1e-4)  # the sum cancels to a hundredth


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_layer_norm_is_the_layers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer = filled(LayerNorm2d(shape[-1]))
    pixels = pixels_of(shape, dtype, offset=3.0)
    got = layer_norm(pixels, layer.weight.float(), layer.bias.float())
    assert_relative(as_map(got), layer(as_map(pixels)), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layer_norm_scales_the_identity_path_in_place(dtype: torch.dtype) -> None:
    layer = filled(LayerNorm2d(20))
    pixels, scale = pixels_of((2, 3, 5, 20), dtype), random_map(20).float()
    before = pixels.clone()
    got = layer_norm(pixels, layer.weight.float(), layer.bias.float(), scale)
    assert_relative(as_map(got), layer(as_map(before)), TOLERANCES[dtype])
    assert_close(pixels, (before.float() * scale).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*MAPS, (2, 80, 90, 100)], ids=str)
@pytest.mark.parametrize("statistic", [Statistic.SUMS, Statistic.SQUARES])
def test_channels_are_added_up(
    statistic: Statistic, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    pixels = pixels_of(shape, dtype, offset=1.0)
    summand = pixels.double().square() if statistic is Statistic.SQUARES else pixels.double()
    got = channel_statistic(pixels, statistic)
    assert_relative(got, summand.sum(dim=(1, 2)), STATISTIC_TOLERANCE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_beta", [False, True])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_response_norm_is_the_layers(
    shape: tuple[int, ...], with_beta: bool, dtype: torch.dtype
) -> None:
    layer = filled(GlobalResponseNorm(shape[-1]))
    if not with_beta:
        layer.beta.zero_()
    pixels = pixels_of(shape, dtype)
    want = layer(as_map(pixels))
    squares = channel_statistic(pixels, Statistic.SQUARES)
    beta = layer.beta.float().flatten() if with_beta else None
    response_norm_(pixels, squares, layer.gamma.float().flatten(), beta)
    assert_relative(as_map(pixels), want, TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_excitation_is_the_layers(shape: tuple[int, ...], gated: bool, dtype: torch.dtype) -> None:
    layer = filled(SqueezeExcite(shape[-1]))
    pixels = pixels_of(shape, dtype)
    gate = pixels_of(shape, dtype, offset=0.5) if gated else None
    want = layer(as_map(pixels)) * (1 if gate is None else as_map(gate))
    excite_(pixels, channel_statistic(pixels, Statistic.SUMS), excitation_of(layer), gate)
    assert_relative(as_map(pixels), want, TOLERANCES[dtype])


def excitation_of(layer: SqueezeExcite) -> Excitation:
    assert layer.reduce.bias is not None
    assert layer.expand.bias is not None
    return Excitation(
        layer.reduce.weight.float().flatten(1),
        layer.reduce.bias.float(),
        layer.expand.weight.float().flatten(1).T.contiguous(),
        layer.expand.bias.float(),
    )


def test_extreme_gates_open_and_close() -> None:
    layer = filled(SqueezeExcite(16))
    assert layer.expand.bias is not None
    layer.expand.bias.copy_(torch.tensor([-1e4, 1e4] * 8))
    pixels = torch.ones(1, 2, 2, 16)
    excite_(pixels, torch.full((1, 16), 4.0), excitation_of(layer))
    assert_close(pixels, torch.tensor([0.0, 1.0] * 8).expand(1, 2, 2, 16), rtol=0, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("height", "width", "kernels", "groups", "group_channels", "query_width", "batch"),
    [
        (14, 14, (5, 13), 8, 16, 16, 2),
        (7, 7, (5, 7), 16, 16, 16, 3),
        (13, 40, (5, 13), 2, 14, 14, 1),
        (27, 15, (5, 13), 3, 10, 8, 1),
        (9, 30, (5, 7), 2, 3, 5, 2),
        (31, 16, (5, 7), 1, 20, 1, 1),
        (5, 11, (5, 5), 2, 33, 4, 1),
        # of variants of one's own
        (9, 10, (3, 9), 2, 12, 5, 2),
        (11, 13, (7, 11), 1, 6, 6, 1),
        (17, 16, (5, 15), 2, 16, 16, 1),
        (17, 17, (17, 17), 1, 8, 3, 2),
        (20, 23, (3, 19), 2, 10, 10, 1),
    ],
)
def test_context_mixing_is_the_references(
    height: int,
    width: int,
    kernels: tuple[int, int],
    groups: int,
    group_channels: int,
    query_width: int,
    batch: int,
    dtype: torch.dtype,
) -> None:
    small_kernel, kernel_size = kernels
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        batch=batch,
        groups=groups,
        channels_per_group=group_channels,
        query_width=query_width,
        small_kernel=small_kernel,
    )
    want = problem.by_reference()
    values, queries, keys, small_bias, large_bias = problem.folded()
    got = mix_context(
        values.permute(0, 2, 3, 1).to(dtype).contiguous(),
        queries.permute(0, 2, 3, 1).to(dtype).contiguous(),
        (keys * LOG2_E).to(dtype),
        padded_bias_windows(small_bias),
        padded_bias_windows(large_bias),
    )
    # Logits reach 30 here: in bfloat16 keys and queries are off by 2^-9 of that, which the
    # exponential turns into some percent of a weight.
    tolerance = 5e-6 if dtype == torch.float32 else 5e-2
    assert_relative(as_map(got), want, tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pixel_that_is_no_number_stays_one(dtype: torch.dtype) -> None:
    pixels = pixels_of((1, 14, 14, 16), dtype)
    pixels[0, 3, 4, 5] = torch.nan
    weight = torch.ones(16)
    normal = layer_norm(pixels, weight, weight)
    assert normal[0, 3, 4].isnan().all()
    assert normal[0, 3, 5].isfinite().all()
    taps = DepthwiseTaps.of(torch.ones(16, 1, 3, 3), weight, dtype)
    convolved, _ = depthwise(pixels, taps, activated=True)
    assert convolved[0, 2:5, 3:6, 5].isnan().all()
    assert convolved[0, :, :, 6].isfinite().all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_statistics_hardly_depend_on_the_threads(threads: int) -> None:
    pixels = pixels_of((1, 56, 56, 16), torch.float32)
    taps = DepthwiseTaps.of(torch.ones(16, 1, 3, 3), torch.zeros(16), torch.float32)
    one, alone = depthwise(pixels, taps, statistic=Statistic.SQUARES)
    torch.set_num_threads(threads)
    many, together = depthwise(pixels, taps, statistic=Statistic.SQUARES)
    assert_close(many, one, rtol=0, atol=0)
    assert_close(together, alone, rtol=1e-6, atol=0)
