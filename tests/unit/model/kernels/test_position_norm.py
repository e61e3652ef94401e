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

pytestmark = pytest.mark.slow

# B, C, H, W: odd sizes, and a strip that is no whole one; one pixel; blocks that hold several
# images; more channels than a block.
SIZES = [(1, 5, 9, 3), (2, 24, 1, 1), (5, 40, 2, 1), (1, 1100, 1, 2)]
FLOAT32 = 2e-5  # sums of nine products of numbers near 1, in float32, divided by a deviation near 1
# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.position_norm").position_norm_triton


@pytest.mark.parametrize("context_channels", [None, 4])
def test_results_are_those_of_the_layers(context_channels: int | None) -> None:
    position, norm = filled(ResidualDepthwise(6)), filled(LayerNorm2d(6))
    conv, features = position.folded(), random_map(2, 6, 5, 7)
    assert conv.bias is not None
    scale, shift = random_map(2, 6)
    want = position(features)
    want_scaled = want * scale[:, None, None] + shift[:, None, None]
    context, context_scale = None, None
    if context_channels is not None:
        context, context_scale = random_map(2, context_channels, 5, 7), random_map(context_channels)
        want_scaled[:, -context_channels:] += context * context_scale[:, None, None]
    vectors = (norm.weight, norm.bias, scale, shift)
    scaled, normalised = position_norm(
        features,
        conv.weight,
        conv.bias,
        pixel_taps(conv.weight),
        *vectors,
        Autotuner(),
        context,
        context_scale,
    )
    assert_close(scaled, want_scaled, rtol=1e-12, atol=1e-12)
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
@pytest.mark.parametrize("guided", [False, True])
def test_kernel_equals_the_reference(
    kernel: Any,
    kernel_device: str,
    guided: bool,
    tile: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
) -> None:
    problem = map_problem(*sizes, dtype=dtype, device=kernel_device)
    features, weight, bias, taps, *vectors = problem.normalised()
    context, context_scale = None, None
    if guided:
        context_channels = sizes[1] // 2 + 1
        context = features[:, :context_channels].flip(0)
        context_scale = bias[:context_channels].flip(0)
    results: tuple[Tensor, Tensor] = kernel(
        features, taps, bias, *vectors, context, context_scale, tile
    )

    def exact(part: Any) -> Any:
        return None if part is None else part.cpu().double()

    wanted = position_norm_reference(
        *map(exact, (features, weight, bias, *vectors, context, context_scale))
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
    features, _, bias, taps, *vectors = problem.normalised()
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (features, taps, bias, *vectors, features.clone(), bias.clone(), "few")
    torch.library.opcheck(kernel, arguments, test_utils=checks)


def test_tensors_of_another_width_are_refused() -> None:
    arguments = map_problem(1, 3, 4, 4).normalised()
    run: Any = position_norm
    with pytest.raises(ValueError, match=r"A 3x3 kernel of 3 channels is \(3, 1, 3, 3\) with taps"):
        run(*arguments[:3], arguments[3][:8], *arguments[4:], "plain")
    with pytest.raises(ValueError, match=r"A tensor of 3 channels is not \(2,\)"):
        run(*arguments[:7], arguments[7][:2], "plain")


@pytest.mark.parametrize(
    ("context", "scale"),
    [
        ((1, 2, 4, 4), (2,)),
        ((2, 2, 4, 3), (2,)),
        ((2, 2, 4, 4), (3,)),
        ((2, 2, 4, 4), None),
        ((2, 4, 4, 4), (4,)),
        (None, (2,)),
    ],
    ids=str,
)
def test_a_context_that_does_not_fit_is_refused(
    context: tuple[int, ...] | None, scale: tuple[int, ...] | None
) -> None:
    arguments = map_problem(2, 3, 4, 4).normalised()
    added = (None if shape is None else torch.ones(shape) for shape in (context, scale))
    with pytest.raises(ValueError, match=r"No context of \(2, 3, 4, 4\) features, and its scale"):
        position_norm(*arguments, "plain", *added)


def test_a_requested_tile_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)
    monkeypatch.setattr(dispatch, "position_norm_triton", lambda *_: _, raising=False)
    problem = map_problem(2, 3, 4, 4)
    result: Any = position_norm(*problem.normalised(), "few")
    assert result[-1] == "few"
