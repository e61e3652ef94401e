"""The large depthwise convolution: its weight's layout, its checks, and who computes it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.kernels.depthwise_taps import convolution_weight, tap_major
from model.kernels.large_depthwise import large_depthwise, large_depthwise_with_sums
from unit.model.kernels.depthwise_problem import depthwise_problem


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("kernel_size", [17, 15, 13, 7])
def test_cpu_convolves_as_pytorch_does(kernel_size: int, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 11, 8, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn(5, 1, kernel_size, kernel_size, generator=generator) / kernel_size
    bias = torch.randn(5, generator=generator)
    want = F.conv2d(features, weight, bias, padding=kernel_size // 2, groups=5)
    got = large_depthwise(features, tap_major(weight), bias)
    assert_close(got, want, rtol=0, atol=0)
    assert got.stride() == want.stride()


@pytest.mark.parametrize("channels", [5, 32, 56])
def test_weight_survives_its_layout(channels: int) -> None:
    weight = torch.randn(channels, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    assert_close(convolution_weight(tap_major(weight), channels), weight, rtol=0, atol=0)


def test_taps_lie_between_rows_of_zeros_and_end_at_a_whole_block() -> None:
    taps = tap_major(torch.ones(33, 1, 3, 3))
    assert taps.shape == (5, 3, 64)
    assert taps.is_contiguous()
    assert taps.sum() == 33 * 9  # nothing but the weight's own ones
    assert not taps[0].any()
    assert not taps[-1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_are_those_of_the_result_in_float32(dtype: torch.dtype) -> None:
    problem = depthwise_problem(2, 3, 9, 12, 7, dtype=dtype)
    convolved, sums = large_depthwise_with_sums(*problem)
    assert_close(convolved, large_depthwise(*problem), rtol=0, atol=0)
    assert sums.dtype == torch.float32
    # 108 numbers near 1
    assert_close(sums.double(), convolved.double().sum(dim=(2, 3)), rtol=0, atol=1e-4)


def test_taps_of_another_width_are_refused() -> None:
    features, taps, bias = depthwise_problem(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match=r"Taps of 3 channels .* are \(K \+ 2, K, 32\), not"):
        large_depthwise(features, taps[:, :, :3], bias)


def test_an_even_kernel_is_refused() -> None:
    features, _, bias = depthwise_problem(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match="an odd K"):
        large_depthwise(features, tap_major(torch.ones(3, 1, 6, 6)), bias)


def test_bias_of_another_width_is_refused() -> None:
    features, taps, bias = depthwise_problem(1, 3, 9, 9, 7)
    with pytest.raises(ValueError, match="The bias of 3 channels is not"):
        large_depthwise_with_sums(features, taps, bias[:2])


def test_triton_is_refused_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="The Triton depthwise kernel was asked for, but "):
        large_depthwise(*depthwise_problem(1, 3, 9, 9, 7), implementation="triton")
