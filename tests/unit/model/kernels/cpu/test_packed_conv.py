"""A convolution with its weight laid out once is the convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from model.kernels.cpu.packed_conv import Activation, PackedConv, packed_conv_unsupported_reason
from support.filled import filled, random_map

pytestmark = pytest.mark.skipif(
    packed_conv_unsupported_reason(torch.float32) is not None,
    reason=str(packed_conv_unsupported_reason(torch.float32)),
)

ACTIVATIONS = {
    "none": lambda features: features,
    "gelu": F.gelu,
    "swish": F.silu,
    "relu": F.relu,
}
SIZES = [(7, 7), (8, 8), (14, 14), (16, 22), (1, 1), (3, 50)]
EXACT = 1e-5  # float32, sums of at most some hundred products of numbers near 1


def packed(conv: nn.Conv2d, activation: Activation = "none") -> PackedConv:
    return PackedConv(conv.float(), torch.float32, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_it_convolves_maps_of_any_size_in_any_order(
    kernel_size: int, activation: Activation
) -> None:
    conv = filled(nn.Conv2d(64, 128, kernel_size, padding=kernel_size // 2))
    layer = packed(conv, activation)
    for size in [*SIZES, *reversed(SIZES)]:
        for batch in (1, 3):
            features = random_map(batch, 64, *size).float().to(memory_format=torch.channels_last)
            want = ACTIVATIONS[activation](conv(features))
            assert_close(layer(features), want, rtol=EXACT, atol=EXACT)


def test_strides_are_kept() -> None:
    conv = filled(nn.Conv2d(16, 24, 3, stride=2, padding=1))
    features = random_map(2, 16, 9, 12).float().to(memory_format=torch.channels_last)
    assert_close(packed(conv)(features), conv(features), rtol=EXACT, atol=EXACT)


def test_it_adds_to_a_map_in_place() -> None:
    conv = filled(nn.Conv2d(16, 24, 1))
    features = random_map(2, 16, 9, 12).float().to(memory_format=torch.channels_last)
    total = random_map(2, 24, 9, 12).float().to(memory_format=torch.channels_last)
    want = total + conv.float()(features)
    assert packed(conv).add_to(total, features) is total
    assert_close(total, want, rtol=EXACT, atol=EXACT)


def test_another_bias_takes_the_convolutions_place() -> None:
    conv, bias = filled(nn.Conv2d(16, 8, 1)), torch.arange(8.0)
    features = random_map(1, 16, 2, 2).float()
    got = PackedConv(conv.float(), torch.float32, bias=bias.double())(features)
    assert_close(got, F.conv2d(features, conv.weight, bias), rtol=EXACT, atol=EXACT)


def test_sizes_share_layouts() -> None:
    layer = packed(filled(nn.Conv2d(64, 256, 1)))
    for side in range(7, 40):
        layer(torch.zeros(1, 64, side, side))
    # A layout a size would be the weight's memory over and over.
    assert len(layer._layouts) <= 4


def test_it_remembers_a_bounded_number_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.cpu.packed_conv.REMEMBERED_SIZES", 3)
    layer = packed(filled(nn.Conv2d(4, 4, 1)))
    for side in range(1, 9):
        layer(torch.zeros(1, 4, side, side))
    assert [shape[2] for shape in layer._layout_for] == [6, 7, 8]


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_packed_only_for_processors_that_onednn_has_it_for(
    monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    reason = packed_conv_unsupported_reason(torch.bfloat16)
    assert (reason is None) == supported
    assert packed_conv_unsupported_reason(torch.float32) is None


def test_what_is_said_to_be_packed_is() -> None:
    layer = PackedConv(filled(nn.Conv2d(16, 24, 1)).float(), torch.bfloat16)
    features = random_map(1, 16, 9, 12).bfloat16().to(memory_format=torch.channels_last)
    if packed_conv_unsupported_reason(torch.bfloat16) is None:
        assert layer(features).dtype == torch.bfloat16
    else:
        with pytest.raises(RuntimeError, match="bf16"):
            layer(features)
