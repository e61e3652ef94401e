"""The Triton kernels of the large depthwise convolution give what PyTorch's gives."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.kernels.large_depthwise import (
    FLOAT_TILES,
    MATRIX_TILES,
    Implementation,
    large_depthwise_reference,
    large_depthwise_with_sums,
)
from support.depthwise_problem import DepthwiseArguments, depthwise_arguments

# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}
FLOAT32 = 1e-5  # sums of up to 289 products of numbers near 1/17, in float32
SHORT_DTYPES = (torch.bfloat16, torch.float16)

# B, C, H, W, K: smaller than the window; an odd width; a map of two columns; tiny maps, of which
# one program takes many; more than one strip of columns, and a part of one.
SIZES = [
    (1, 5, 9, 7, 17),
    (1, 16, 9, 8, 15),
    (1, 17, 9, 2, 13),
    (40, 8, 3, 2, 7),
    (2, 9, 5, 37, 17),
    (1, 3, 4, 21, 19),  # of a variant of one's own, whose union is padded to 64 columns
]
# In float32 a program takes 8 columns of one image, and the interpreter runs one after the other.
FLOAT_SIZES = [
    SIZES[0],
    (1, 16, 5, 8, 15),
    (1, 17, 9, 2, 5),
    (3, 8, 3, 2, 5),
    (1, 9, 5, 19, 5),
    (1, 3, 2, 5, 19),
]
TILES: list[tuple[Implementation, torch.dtype]] = [
    *((tile, torch.float32) for tile in FLOAT_TILES),
    *((tile, dtype) for tile in MATRIX_TILES for dtype in SHORT_DTYPES),
]


class Kernels:
    """The operators, by their tiles."""

    def __init__(self) -> None:
        matrix = importlib.import_module("model.kernels.gpu.depthwise_16bit")
        floats = importlib.import_module("model.kernels.gpu.depthwise_float32")
        self._operators = dict.fromkeys(MATRIX_TILES, matrix.depthwise_matrix_triton)
        self._operators |= dict.fromkeys(FLOAT_TILES, floats.large_depthwise_triton)

    def of(self, tile: str) -> Any:
        return self._operators[tile]


@pytest.fixture
def kernels(kernel_device: str) -> Kernels:
    return Kernels()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tile", "dtype", "sizes"),
    [
        (tile, dtype, sizes)
        for tile, dtype in TILES
        for sizes in (FLOAT_SIZES if dtype == torch.float32 else SIZES)
    ],
    ids=str,
)
def test_kernel_equals_the_reference(
    kernels: Kernels,
    kernel_device: str,
    tile: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int, int],
) -> None:
    problem = depthwise_arguments(*sizes, dtype=dtype, device=kernel_device)
    convolved, _ = _convolved(kernels, problem, tile)
    assert convolved.dtype == dtype
    # Summed in float32: a short dtype rounds the result alone.
    rounding = 0.0
    if dtype in SHORT_DTYPES:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    assert_close(convolved.double(), _exact(problem), rtol=rounding, atol=FLOAT32)


@pytest.mark.parametrize(("tile", "dtype"), TILES, ids=str)
def test_sums_are_those_of_the_stored_result(
    kernels: Kernels, kernel_device: str, tile: str, dtype: torch.dtype
) -> None:
    problem = depthwise_arguments(2, 20, 11, 10, 3, dtype=dtype, device=kernel_device)
    convolved, partial_sums = _convolved(kernels, problem, tile, with_sums=True)
    assert partial_sums.dtype == torch.float32
    exact = convolved.double().sum(dim=(2, 3))
    assert_close(partial_sums.sum(dim=1).double(), exact, rtol=0, atol=1e-4)  # 110 sums near 1


@pytest.mark.parametrize(("tile", "dtype"), [("small", torch.float32), ("few", torch.bfloat16)])
def test_sums_that_are_not_requested_take_no_memory(
    kernels: Kernels, kernel_device: str, tile: str, dtype: torch.dtype
) -> None:
    problem = depthwise_arguments(1, 3, 4, 4, 3, dtype=dtype, device=kernel_device)
    _, partial_sums = _convolved(kernels, problem, tile)
    assert partial_sums.numel() == 0


@pytest.mark.parametrize(("tile", "dtype"), [("small", torch.float32), ("few", torch.bfloat16)])
def test_result_is_channels_last(
    kernels: Kernels, kernel_device: str, tile: str, dtype: torch.dtype
) -> None:
    problem = depthwise_arguments(2, 3, 4, 5, 3, dtype=dtype, device=kernel_device)
    convolved, _ = _convolved(kernels, problem, tile)
    assert convolved.stride() == problem.features.stride()


@pytest.mark.parametrize(("tile", "dtype"), [("small", torch.float32), ("few", torch.bfloat16)])
def test_operator_keeps_its_schema(
    kernels: Kernels, kernel_device: str, tile: str, dtype: torch.dtype
) -> None:
    problem = depthwise_arguments(1, 3, 4, 4, 3, dtype=dtype, device=kernel_device)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (problem.features, problem.taps, problem.bias, True, tile)
    torch.library.opcheck(kernels.of(tile), arguments, test_utils=checks)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("channels", "height", "width", "kernel_size"),
    [(64, 56, 56, 17), (128, 28, 28, 15), (256, 14, 14, 13), (512, 7, 7, 7), (64, 200, 272, 17)],
)
@pytest.mark.parametrize(("tile", "dtype"), TILES, ids=str)
def test_gpu_runs_the_networks_shapes(
    kernel_device: str,
    channels: int,
    height: int,
    width: int,
    kernel_size: int,
    dtype: torch.dtype,
    tile: Implementation,
) -> None:
    if kernel_device != "cuda":
        pytest.skip("needs a CUDA device: the interpreter would take minutes")
    problem = depthwise_arguments(
        4, channels, height, width, kernel_size, dtype=dtype, device=kernel_device
    )
    rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    torch._dynamo.reset()  # in one process it compiles a function for eight problems at most
    for operation in (
        large_depthwise_with_sums,
        torch.compile(large_depthwise_with_sums, fullgraph=True),
    ):
        convolved, sums = operation(*problem, tile)
        assert_close(convolved.double(), _exact(problem), rtol=rounding, atol=FLOAT32)
        again, sums_again = operation(*problem, tile)
        assert_close((again, sums_again), (convolved, sums), rtol=0, atol=0)


def _convolved(
    kernels: Kernels, problem: DepthwiseArguments, tile: str, *, with_sums: bool = False
) -> tuple[Tensor, Tensor]:
    features, _, bias, taps = problem
    result: tuple[Tensor, Tensor] = kernels.of(tile)(features, taps, bias, with_sums, tile)
    return result


def _exact(problem: DepthwiseArguments) -> Tensor:
    features, weight, bias, _ = (part.double() for part in problem)
    return large_depthwise_reference(features, weight, bias)
