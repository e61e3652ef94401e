"""Rows that are gated by sums are those of the network's layer, by PyTorch and by Triton."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.backbone.layers import SqueezeExcite
from model.kernels.gpu.autotune import Autotuner
from model.kernels.scaled_product import as_map, as_rows
from model.kernels.squeeze_excite import Layers, squeeze_excite, squeeze_excite_reference
from support.filled import filled, random_map

pytestmark = pytest.mark.slow

# The channels of each variant that are not a power of two, the most, and hidden ones that do not
# fill their last block.
CASES = [("few", 56), ("many", 56), ("many", 64), ("few", 336), ("many", 512), ("few", 576)]
# On a GPU a short dtype is rounded to the nearest; Triton's interpreter cuts bfloat16.
ROUNDING_EPS = {"cpu": 1.0, "cuda": 0.5}


def layers_of(layer: SqueezeExcite) -> Layers:
    reduce, expand = layer.reduce, layer.expand
    assert reduce.bias is not None
    assert expand.bias is not None
    to_gates = expand.weight.flatten(1).t().contiguous()
    return reduce.weight.flatten(1), reduce.bias, to_gates, expand.bias


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.squeeze_excite").squeeze_excite_triton


@pytest.mark.parametrize("parts", [None, 1, 4])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 7, 9)])
def test_rows_by_sums_are_gated_like_the_layer(
    batch: int, height: int, width: int, parts: int | None
) -> None:
    layer = filled(SqueezeExcite(40))
    features, gate = random_map(2, batch, 40, height, width)
    sums = None
    if parts is not None:
        sums = features.sum(dim=(2, 3)).unsqueeze(1).expand(-1, parts, -1) / parts
    rows, pixels = as_rows(features), height * width
    got = squeeze_excite(rows, sums, pixels, layers_of(layer), Autotuner())
    want = layer(features)
    assert_close(as_map(got, height, width), want, rtol=1e-12, atol=1e-12)
    got = squeeze_excite(rows, sums, pixels, layers_of(layer), Autotuner(), as_rows(gate))
    assert_close(as_map(got, height, width), want * F.silu(gate), rtol=1e-12, atol=1e-12)


def test_short_weights_still_add_up_in_float32() -> None:
    layer = filled(SqueezeExcite(64)).to(torch.bfloat16)
    rows = torch.ones(1, 1, 64, dtype=torch.bfloat16)
    sums = random_map(2, 1, 64, dtype=torch.float32) * 500
    gates = squeeze_excite(rows, sums, 100, layers_of(layer), "plain")
    exact = squeeze_excite(rows.double(), sums.double(), 100, layers_of(layer.double()), "plain")
    assert gates.dtype == torch.bfloat16
    assert_close(gates.double(), exact, rtol=0, atol=2**-9)


@pytest.mark.parametrize("kind", ["map", "weight", "own sums"])
@pytest.mark.parametrize(("tile", "channels"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_kernel_equals_the_reference(
    kernel: Any, kernel_device: str, tile: str, dtype: torch.dtype, channels: int, kind: str
) -> None:
    layers = layers_of(filled(SqueezeExcite(channels)).to(kernel_device, dtype))
    images, count, parts = 2, 35, 3
    rows = random_map(1 if kind == "weight" else images, count, channels).to(kernel_device, dtype)
    sums, gate = None, None
    if kind == "own sums":
        gate = random_map(images, count, channels).flip(0).to(kernel_device, dtype)
    else:
        sums = 300 * random_map(images, parts, channels, dtype=torch.float32).to(kernel_device)
    got = kernel(rows, sums, 196, *layers, gate, tile)
    assert (got.shape, got.dtype) == ((images, count, channels), dtype)

    def exact(part: Any) -> Any:
        return None if part is None else part.cpu().double()

    want = squeeze_excite_reference(
        exact(rows), exact(sums), 196, tuple(map(exact, layers)), exact(gate)
    )
    assert want.std() > 0.05  # rows that are all alike would show nothing
    rounding = 0.0
    if dtype != torch.float32:
        rounding = ROUNDING_EPS[kernel_device] * torch.finfo(dtype).eps
    # float32's rounding of some hundred sums, times a row
    assert_close(got.cpu().double(), want, rtol=rounding, atol=5e-6)


def test_a_program_holds_a_hidden_channel_of_any_width(kernel: Any, kernel_device: str) -> None:
    channels = 4097  # padded to more than a block of either layer in float32
    layer = random_map(16, channels, dtype=torch.float32).to(kernel_device) / channels**0.5
    layers = (layer, layer[1, :16], layer, layer[0])
    rows = random_map(1, 1, channels, dtype=torch.float32).to(kernel_device)
    want = squeeze_excite_reference(rows, None, 1, layers, None)
    assert_close(kernel(rows, None, 1, *layers, None, "few"), want, rtol=0, atol=5e-6)


def test_kernel_takes_sums_of_any_strides(kernel: Any, kernel_device: str) -> None:
    layers = layers_of(filled(SqueezeExcite(20)).to(kernel_device, torch.float32))
    sums = random_map(20, 1, 3, dtype=torch.float32).to(kernel_device).permute(2, 1, 0)
    rows = torch.ones(1, 2, 20, device=kernel_device)
    got = kernel(rows, sums, 1, *layers, None, "few")
    assert_close(got, kernel(rows, sums.contiguous(), 1, *layers, None, "few"), rtol=0, atol=0)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    layers = layers_of(filled(SqueezeExcite(20)).to(kernel_device, torch.float32))
    rows = random_map(2, 3, 20, dtype=torch.float32).to(kernel_device)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    arguments = (rows, None, 3, *layers, rows.clone(), "few")
    torch.library.opcheck(kernel, arguments, test_utils=checks)
