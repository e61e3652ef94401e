"""Rows that are normalised by sums are those of the network's layer, by PyTorch and by Triton."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from model.backbone.layers import GlobalResponseNorm
from model.kernels import response_norm as dispatch
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.selection import MAX_PARTIAL_BYTES
from model.kernels.response_norm import response_norm, response_norm_reference
from model.kernels.scaled_product import as_map, as_rows
from support.filled import filled, random_map

# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.response_norm").response_norm_triton


@pytest.mark.parametrize("parts", [None, 1, 4])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 7, 9)])
def test_rows_by_sums_are_normalised_like_the_layer(
    batch: int, height: int, width: int, parts: int | None
) -> None:
    layer = filled(GlobalResponseNorm(40))
    features = random_map(batch, 40, height, width)
    squares = None
    if parts is not None:
        squares = features.square().sum(dim=(2, 3)).unsqueeze(1).expand(-1, parts, -1) / parts
    gamma, beta = layer.gamma.flatten(), layer.beta.flatten()
    got = response_norm(as_rows(features), squares, gamma, beta, Autotuner())
    assert_close(as_map(got, height, width), layer(features), rtol=1e-12, atol=1e-12)


# Images, rows, parts, channels: one of all; several blocks of rows and of parts; more channels than
# a program holds numbers of.
SIZES = [(1, 1, 1, 5), (2, 65, 82, 56), (3, 17, 3, 1344)]
CASES = [("few", SIZES[0]), ("few", SIZES[1]), ("many", SIZES[1]), ("many", SIZES[2])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["map", "weight", "own sums"])
@pytest.mark.parametrize(("tile", "sizes"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_kernel_equals_the_reference(
    kernel: Any,
    kernel_device: str,
    tile: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int],
    kind: str,
) -> None:
    images, count, parts, channels = sizes
    rows = random_map(1 if kind == "weight" else images, count, channels).to(kernel_device, dtype)
    squares = None
    if kind != "own sums":
        squares = random_map(images, parts, channels, dtype=torch.float32).square()
        squares = squares.to(kernel_device)
    gamma, beta = (random_map(2, channels) / 4).to(kernel_device, dtype)
    got = kernel(rows, squares, gamma, beta, tile)
    assert (got.shape, got.dtype) == ((images, count, channels), dtype)
    exact = (None if each is None else each.cpu().double() for each in (rows, squares, gamma, beta))
    want = response_norm_reference(*exact)  # type: ignore[arg-type]
    rounding = 0.0
    if dtype != torch.float32:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    assert_close(got.cpu().double(), want, rtol=rounding, atol=1e-5)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    rows = torch.ones(2, 3, 20, device=kernel_device)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (rows, rows.square(), rows[0, 0], rows[0, 1], "few")
    torch.library.opcheck(kernel, arguments, test_utils=checks)


def test_many_parts_are_added_up_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)
    passed: list[Any] = []
    monkeypatch.setattr(
        dispatch, "response_norm_triton", lambda *each: passed.append(each[1]), raising=False
    )
    most = MAX_PARTIAL_BYTES // (4 * 8)  # of 8 channels in float32
    rows, gamma = torch.ones(2, 3, 8), torch.ones(8)
    for parts in (most, most + 1):
        response_norm(rows, torch.ones(2, parts, 8), gamma, gamma, "few")
    response_norm(torch.ones(2, most + 1, 8), None, gamma, gamma, "few")
    assert [each.shape[1] for each in passed] == [most, 1, 1]
    assert_close(passed[1], passed[2])
