"""Squeeze-excite's gates by sums are those of the network's layer, by PyTorch and by Triton."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.backbone.layers import SqueezeExcite
from model.kernels.large_depthwise import channel_sums
from model.kernels.squeeze_excite import squeeze_excite_gates
from support.filled import filled, random_map

# The channels of each variant that are not a power of two, the most, and hidden ones that do not
# fill their last block.
CHANNELS = [56, 64, 336, 512, 576]
BOUNDS = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}
"""Gates are below 1: float32's rounding of some hundred sums; one rounding of the result."""


class Weights(NamedTuple):
    """As ``squeeze_excite_gates`` takes them."""

    reduce: Tensor
    reduce_bias: Tensor
    expand: Tensor
    expand_bias: Tensor


def weights_of(layer: SqueezeExcite) -> Weights:
    reduce, expand = layer.reduce, layer.expand
    assert reduce.bias is not None
    assert expand.bias is not None
    return Weights(
        reduce.weight.flatten(1),
        reduce.bias,
        expand.weight.flatten(1).t().contiguous(),
        expand.bias,
    )


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    module = importlib.import_module("model.kernels.gpu.squeeze_excite")
    return module.squeeze_excite_gates_triton


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 7, 9)])
def test_gates_by_sums_excite_like_the_layer(batch: int, height: int, width: int) -> None:
    layer = filled(SqueezeExcite(40))
    features = random_map(batch, 40, height, width)
    gates = squeeze_excite_gates(channel_sums(features), height * width, *weights_of(layer))
    assert gates.dtype == torch.float64
    assert_close(features * gates[:, :, None, None], layer(features), rtol=1e-12, atol=1e-12)


def test_short_weights_still_add_up_in_float32() -> None:
    layer = filled(SqueezeExcite(64)).to(torch.bfloat16)
    sums = random_map(2, 64, dtype=torch.float32) * 500
    gates = squeeze_excite_gates(sums, 100, *weights_of(layer))
    exact = squeeze_excite_gates(sums.double(), 100, *weights_of(layer.double()))
    assert gates.dtype == torch.bfloat16
    assert_close(gates.double(), exact, rtol=0, atol=2**-9)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_kernel_equals_the_reference(
    kernel: Any, kernel_device: str, channels: int, dtype: torch.dtype
) -> None:
    layer = filled(SqueezeExcite(channels)).to(kernel_device, dtype)
    sums = 300 * random_map(3, channels, dtype=torch.float32).to(kernel_device)
    gates = kernel(sums, 196, *weights_of(layer))
    assert (gates.shape, gates.dtype) == ((3, channels), dtype)
    exact = squeeze_excite_gates(
        sums.cpu().double(), 196, *(part.cpu().double() for part in weights_of(layer))
    )
    assert exact.std() > 0.05  # gates that are all alike would show nothing
    assert_close(gates.cpu().double(), exact, rtol=0, atol=BOUNDS[dtype])


def test_kernel_takes_sums_of_any_strides(kernel: Any, kernel_device: str) -> None:
    layer = filled(SqueezeExcite(20)).to(kernel_device, torch.float32)
    sums = random_map(20, 3, dtype=torch.float32).to(kernel_device).t()
    gates = kernel(sums, 1, *weights_of(layer))
    assert_close(gates, kernel(sums.contiguous(), 1, *weights_of(layer)), rtol=0, atol=0)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    layer = filled(SqueezeExcite(20)).to(kernel_device, torch.float32)
    sums = random_map(2, 20, dtype=torch.float32).to(kernel_device)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    torch.library.opcheck(kernel, (sums, 49, *weights_of(layer)), test_utils=checks)
