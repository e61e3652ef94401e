"""The response norm's scales by sums are those of the network's layer, by PyTorch and by Triton."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from model.backbone.layers import GlobalResponseNorm
from model.kernels import response_scale as dispatch
from model.kernels.activated_depthwise import sums_of_squares
from model.kernels.response_scale import MAX_PARTS, response_scale
from support.filled import filled, random_map


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.response_scale").response_scale_triton


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 7, 9)])
def test_scales_by_sums_norm_like_the_layer(batch: int, height: int, width: int) -> None:
    layer = filled(GlobalResponseNorm(40))
    features = random_map(batch, 40, height, width)
    squares = sums_of_squares(features).unsqueeze(1) / 4
    scale = response_scale(squares.expand(-1, 4, -1), layer.gamma.flatten())
    got = features * scale[:, :, None, None] + layer.beta
    assert_close(got, layer(features), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("batch", "parts", "channels"), [(1, 1, 5), (3, 7, 56), (2, 65, 1344)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernel_equals_the_reference(
    kernel: Any, kernel_device: str, dtype: torch.dtype, batch: int, parts: int, channels: int
) -> None:
    squares = random_map(batch, parts, channels, dtype=torch.float32).square().to(kernel_device)
    gamma = random_map(channels).to(kernel_device, dtype)
    scales = kernel(squares, gamma)
    assert scales.dtype == torch.float32
    exact = response_scale(squares.cpu().double(), gamma.cpu().double())
    assert_close(scales.cpu().double(), exact, rtol=1e-5, atol=1e-5)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    squares = torch.ones(2, 3, 20, device=kernel_device)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    torch.library.opcheck(kernel, (squares, squares[0, 0]), test_utils=checks)


@pytest.mark.parametrize(("parts", "passed"), [(MAX_PARTS, MAX_PARTS), (MAX_PARTS + 1, 1)])
def test_many_parts_are_added_up_first(
    monkeypatch: pytest.MonkeyPatch, parts: int, passed: int
) -> None:
    monkeypatch.setattr(dispatch, "triton_unsupported_reason", lambda *_: None)
    monkeypatch.setattr(dispatch, "response_scale_triton", lambda *_: _[0], raising=False)
    assert response_scale(torch.ones(2, parts, 3), torch.ones(3)).shape == (2, passed, 3)
