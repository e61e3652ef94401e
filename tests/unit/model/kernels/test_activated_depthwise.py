"""Bias, GELU and depthwise convolution in one pass give what the layers give one after another."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.kernels import activated_depthwise as dispatch
from model.kernels.activated_depthwise import (
    activated_depthwise,
    activated_depthwise_reference,
    depthwise_gelu,
)
from model.kernels.gpu.autotune import Autotuner
from support.map_problem import map_problem

# B, C, H, W: odd sizes, and strips that are no whole ones; one pixel; two channel blocks.
SIZES = [(1, 5, 5, 8), (2, 3, 1, 1), (1, 130, 1, 2)]
FLOAT32 = 1e-5  # sums of nine products of numbers near 1, in float32
# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}


@pytest.fixture
def kernels(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.activated_depthwise")


@pytest.fixture
def kernel(kernels: Any) -> Any:
    return kernels.activated_depthwise_triton


def test_reference_is_the_layers_one_after_another() -> None:
    problem = map_problem(2, 5, 6, 7, dtype=torch.float64)
    features, added, weight, bias, _ = problem.activated()
    activated = F.gelu(features + added[:, None, None])
    want = F.conv2d(activated, weight, bias, padding=1, groups=5)
    got, squares = activated_depthwise(*problem.activated(), Autotuner())
    assert_close(got, want, rtol=0, atol=0)
    assert_close(squares, want.square().sum(dim=(2, 3))[:, None])


def test_squares_of_a_short_dtype_add_up_in_float32() -> None:
    problem = map_problem(2, 3, 20, 20, dtype=torch.bfloat16)
    convolved, squares = activated_depthwise(*problem.activated(), "plain")
    assert squares.dtype == torch.float32
    exact = convolved.double().square().sum(dim=(2, 3))
    assert_close(squares[:, 0].double(), exact, rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        *((torch.float32, sizes) for sizes in SIZES),
        *((dtype, SIZES[0]) for dtype in (torch.bfloat16, torch.float16)),
    ],
    ids=str,
)
@pytest.mark.parametrize("tile", ["few", "many"])
def test_kernel_equals_the_reference(
    kernel: Any,
    kernel_device: str,
    tile: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
) -> None:
    problem = map_problem(*sizes, dtype=dtype, device=kernel_device)
    features, added, _, bias, taps = problem.activated()
    got, partial_squares = kernel(features, added, taps, bias, tile)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last)
    want = activated_depthwise_reference(*problem.exact().activated()[:4])
    rounding = 0.0
    if dtype != torch.float32:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    assert_close(got.cpu().double(), want, rtol=rounding, atol=FLOAT32)
    squares = partial_squares.sum(dim=1).cpu().double()
    assert_close(squares, got.cpu().double().square().sum(dim=(2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        *((torch.float32, sizes) for sizes in SIZES),
        *((dtype, SIZES[0]) for dtype in (torch.bfloat16, torch.float16)),
    ],
    ids=str,
)
@pytest.mark.parametrize("tile", ["few", "many"])
def test_kernel_with_gelu_behind_equals_the_layers(
    kernels: Any,
    kernel_device: str,
    tile: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
) -> None:
    problem = map_problem(*sizes, dtype=dtype, device=kernel_device)
    got = kernels.depthwise_gelu_triton(problem.features, problem.taps, problem.bias, tile)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last)
    features, weight, bias, taps, *_ = problem.exact()
    want = F.gelu(F.conv2d(features, weight, bias, padding=1, groups=sizes[1]))
    assert_close(depthwise_gelu(features, weight, bias, taps, Autotuner()), want, rtol=0, atol=0)
    rounding = 0.0
    if dtype != torch.float32:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    assert_close(got.cpu().double(), want, rtol=rounding, atol=FLOAT32)


def test_operators_keep_their_schemas(kernels: Any, kernel_device: str) -> None:
    problem = map_problem(1, 3, 4, 4, device=kernel_device)
    features, added, _, bias, taps = problem.activated()
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    for operator, vectors in (
        (kernels.activated_depthwise_triton, (added, taps, bias)),
        (kernels.depthwise_gelu_triton, (taps, bias)),
    ):
        torch.library.opcheck(operator, (features, *vectors, "few"), test_utils=checks)


def test_a_kernel_of_another_size_is_refused() -> None:
    features, added, weight, bias, taps = map_problem(1, 3, 4, 4).activated()
    with pytest.raises(ValueError, match=r"A 3x3 kernel of 3 channels is \(3, 1, 3, 3\), not"):
        activated_depthwise(features, added, weight[:2], bias, taps, "plain")
    with pytest.raises(ValueError, match="The bias of 3 channels is not"):
        activated_depthwise(features, added[:2], weight, bias, taps, "plain")
    with pytest.raises(ValueError, match=r"A 3x3 kernel of 3 channels is \(9, 3\), not"):
        depthwise_gelu(features, weight, bias, taps[1:], "plain")


def test_a_measured_shape_runs_on_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)
    requested = []

    def note(*arguments: Any) -> Any:
        requested.append(arguments[-1])
        return arguments[0], arguments[0]

    monkeypatch.setattr(dispatch, "activated_depthwise_triton", note, raising=False)
    problem, autotuner = map_problem(2, 3, 4, 4), Autotuner()
    with autotuner.collect_problems() as problems:
        activated_depthwise(*problem.activated(), autotuner)
    assert requested == []  # an unmeasured one runs on PyTorch
    candidates = {"plain": object, "many": list}
    autotuner.measure(problems[0], candidates, lambda run: 1.0 if run is list else 2.0)
    activated_depthwise(*problem.activated(), autotuner)
    assert requested == ["many"]
