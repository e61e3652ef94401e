"""The Triton kernel that pairs the channels of a large depthwise convolution gives PyTorch's."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.kernels.gpu.depthwise_layout import MAX_PAIRED_KERNEL
from model.kernels.large_depthwise import PAIRED_TILES, large_depthwise_reference, triton_tiles
from support.depthwise_problem import DepthwiseArguments, depthwise_arguments

# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}

# B, C, H, W, K: smaller than the window; the least even number of channels; two blocks of channels,
# the second in part; strips of more images than one program takes; more than one strip of columns,
# and a part of one. The interpreter takes as long for a program that is nearly empty.
SIZES = [(1, 6, 9, 7, 17), (1, 2, 4, 8, 15), (1, 34, 3, 2, 5), (20, 8, 3, 2, 5), (2, 10, 5, 37, 17)]
# Tiles and dtypes in turn: neither has code of its own.
CASES = [("few_paired", torch.float16), ("many_paired", torch.bfloat16)]


@pytest.fixture
def operator(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.depthwise_paired").depthwise_paired_triton


@pytest.mark.slow
@pytest.mark.parametrize(("tile", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernel_equals_the_reference(
    operator: Any,
    kernel_device: str,
    sizes: tuple[int, int, int, int, int],
    tile: str,
    dtype: torch.dtype,
) -> None:
    problem = depthwise_arguments(*sizes, dtype=dtype, device=kernel_device)
    convolved, partial_sums = _convolved(operator, problem, tile)
    assert (convolved.dtype, convolved.stride()) == (dtype, problem.features.stride())
    assert partial_sums.numel() == 0
    # Summed in float32: the result alone is rounded.
    rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    assert_close(convolved.double(), _exact(problem), rtol=rounding, atol=1e-5)


@pytest.mark.parametrize("tile", PAIRED_TILES)
def test_sums_are_those_of_the_stored_result(operator: Any, kernel_device: str, tile: str) -> None:
    problem = depthwise_arguments(2, 4, 11, 10, 3, dtype=torch.bfloat16, device=kernel_device)
    convolved, partial_sums = _convolved(operator, problem, tile, with_sums=True)
    assert partial_sums.dtype == torch.float32
    exact = convolved.double().sum(dim=(2, 3))
    assert_close(partial_sums.sum(dim=1).double(), exact, rtol=0, atol=1e-4)  # 110 sums near 1


def test_features_may_start_at_an_odd_number(operator: Any, kernel_device: str) -> None:
    dtype = torch.float16
    problem = depthwise_arguments(1, 2, 4, 4, 3, dtype=dtype, device=kernel_device)
    memory = torch.zeros(problem.features.numel() + 1, dtype=dtype, device=kernel_device)
    features = memory[1:].view(1, 4, 4, 2).permute(0, 3, 1, 2).copy_(problem.features)
    assert features.is_contiguous(memory_format=torch.channels_last)
    odd = _convolved(operator, problem._replace(features=features), "few_paired")
    assert_close(odd, _convolved(operator, problem, "few_paired"), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [((3, 2, 1, 1), (2, 1, 1, 1)), ((1, 2, 3, 4), (7, 1, 8, 2))],
    ids=str,
)
def test_a_stride_along_a_single_entry_may_be_odd(
    operator: Any,
    kernel_device: str,
    sizes: tuple[int, int, int, int],
    strides: tuple[int, int, int, int],
) -> None:
    problem = depthwise_arguments(*sizes, 3, dtype=torch.float16, device=kernel_device)
    problem = problem._replace(features=problem.features.as_strided(sizes, strides))
    assert problem.features.is_contiguous(memory_format=torch.channels_last)
    convolved, _ = _convolved(operator, problem, "few_paired")
    rounding = torch.finfo(torch.float16).eps
    assert_close(convolved.double(), _exact(problem), rtol=rounding, atol=1e-5)


def test_operator_keeps_its_schema(operator: Any, kernel_device: str) -> None:
    features, weight, bias, _ = depthwise_arguments(
        1, 4, 4, 4, 3, dtype=torch.bfloat16, device=kernel_device
    )
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (features, weight, bias, True, "few_paired")
    torch.library.opcheck(operator, arguments, test_utils=checks)


@pytest.mark.parametrize(
    ("dtype", "channels", "kernel_size", "takes"),
    [
        (torch.bfloat16, 64, MAX_PAIRED_KERNEL, True),
        (torch.float16, 2, 7, True),
        (torch.float32, 64, 7, False),
        (torch.bfloat16, 63, 7, False),
        (torch.bfloat16, 64, MAX_PAIRED_KERNEL + 2, False),
    ],
    ids=str,
)
def test_tiles_are_offered_where_they_run(
    dtype: torch.dtype, channels: int, kernel_size: int, takes: bool
) -> None:
    tiles = triton_tiles(dtype, channels, kernel_size)
    assert ({*PAIRED_TILES} <= {*tiles}) == takes
    assert {*PAIRED_TILES}.isdisjoint(tiles) != takes


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("channels", "height", "width", "kernel_size"),
    [(64, 56, 56, 17), (128, 28, 28, 15), (256, 14, 14, 13), (56, 56, 56, 17), (64, 200, 272, 17)],
)
@pytest.mark.parametrize("tile", PAIRED_TILES)
def test_gpu_runs_the_networks_shapes(
    operator: Any,
    kernel_device: str,
    channels: int,
    height: int,
    width: int,
    kernel_size: int,
    tile: str,
) -> None:
    if kernel_device != "cuda":
        pytest.skip("needs a CUDA device: the interpreter would take minutes")
    problem = depthwise_arguments(
        4, channels, height, width, kernel_size, dtype=torch.bfloat16, device=kernel_device
    )
    rounding = ROUNDING_EPS[kernel_device] * torch.finfo(torch.bfloat16).eps
    convolved, sums = _convolved(operator, problem, tile, with_sums=True)
    assert_close(convolved.double(), _exact(problem), rtol=rounding, atol=1e-5)
    again, sums_again = _convolved(operator, problem, tile, with_sums=True)
    assert_close((again, sums_again), (convolved, sums), rtol=0, atol=0)


def _convolved(
    operator: Any, problem: DepthwiseArguments, tile: str, *, with_sums: bool = False
) -> tuple[Tensor, Tensor]:
    features, weight, bias, _ = problem
    result: tuple[Tensor, Tensor] = operator(features, weight, bias, with_sums, tile)
    return result


def _exact(problem: DepthwiseArguments) -> Tensor:
    features, weight, bias, _ = (part.double() for part in problem)
    return large_depthwise_reference(features, weight, bias)
