"""A position convolution and its layer norm in one pass give what the two layers give."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.backbone.layers import LayerNorm2d, ResidualDepthwise
from model.kernels import position_norm as dispatch
from model.kernels.activated_depthwise import pixel_taps
from model.kernels.gpu.autotune import Autotuner
from model.kernels.position_norm import position_norm, position_norm_reference
from support.filled import filled, random_map
from support.map_problem import map_problem

# B, C, H, W: odd sizes, and a strip that is no whole one; one pixel; blocks that hold several
# images; more channels than a block.
SIZES = [(1, 5, 9, 3), (2, 24, 1, 1), (5, 40, 2, 1), (1, 1100, 1, 2)]
FLOAT32 = 2e-5  # sums of nine products of numbers near 1, in float32, divided by a deviation near 1
# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.position_norm").position_norm_triton


def test_results_are_those_of_the_layers() -> None:
    position, norm = filled(ResidualDepthwise(6)), filled(LayerNorm2d(6))
    conv, features = position.folded(), random_map(2, 6, 5, 7)
    assert conv.bias is not None
    positioned, normalised = position_norm(
        features,
        conv.weight,
        conv.bias,
        pixel_taps(conv.weight),
        norm.weight,
        norm.bias,
        Autotuner(),
    )
    want = position(features)
    assert_close(positioned, want, rtol=1e-12, atol=1e-12)
    assert_close(normalised, norm(want), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        *((torch.float32, sizes) for sizes in SIZES),
        *((dtype, sizes) for dtype in (torch.bfloat16, torch.float16) for sizes in SIZES[:2]),
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
    features, _, bias, taps, weight, shift = problem.normalised()
    results: tuple[Tensor, Tensor] = kernel(features, taps, bias, weight, shift, tile)
    exact = problem.exact()
    wanted = position_norm_reference(
        exact.features, exact.weight, exact.bias, exact.first, exact.second
    )
    rounding = 0.0
    if dtype != torch.float32:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    for got, want in zip(results, wanted, strict=True):
        assert got.dtype == dtype
        assert got.is_contiguous(memory_format=torch.channels_last)
        assert_close(got.cpu().double(), want, rtol=rounding, atol=FLOAT32)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    problem = map_problem(1, 3, 4, 4, device=kernel_device)
    features, _, bias, taps, weight, shift = problem.normalised()
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (features, taps, bias, weight, shift, "few")
    torch.library.opcheck(kernel, arguments, test_utils=checks)


def test_tensors_of_another_width_are_refused() -> None:
    features, weight, bias, taps, scale, shift = map_problem(1, 3, 4, 4).normalised()
    with pytest.raises(ValueError, match=r"A 3x3 kernel of 3 channels is \(3, 1, 3, 3\) with taps"):
        position_norm(features, weight, bias, taps[:8], scale, shift, "plain")
    with pytest.raises(ValueError, match=r"A tensor of 3 channels is not \(2,\)"):
        position_norm(features, weight, bias, taps, scale[:2], shift, "plain")


def test_a_requested_tile_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)
    monkeypatch.setattr(dispatch, "position_norm_triton", lambda *_: _, raising=False)
    problem = map_problem(2, 3, 4, 4)
    result: Any = position_norm(*problem.normalised(), "few")
    assert result[-1] == "few"
