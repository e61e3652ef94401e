"""Our dense convolution is the convolution, for every shape and set of instructions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from model.kernels.cpu import dense_conv as module
from model.kernels.cpu.dense_conv import (
    ACTIVATIONS,
    DenseConv,
    dense_conv,
    dense_conv_unsupported_reason,
    is_native,
)
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from model.kernels.cpu.packed_conv import Activation, PackedConv
from support.filled import filled, random_map

pytestmark = [
    pytest.mark.skipif(
        cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
    ),
    pytest.mark.usefixtures("instructions"),
]

FUNCTIONS = {
    "none": lambda features: features,
    "gelu": F.gelu,
    "swish": F.silu,
    "relu": F.relu,
}
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCES = {
    torch.float32: 2e-6,  # of the largest value: float32 sums of at most some thousand products
    torch.bfloat16: 2**-8,  # the result is rounded to 8 significant bits
}
CONVS: dict[str, tuple[Any, ...]] = {
    # channels, results, kernel, stride, padding, dilation
    "one tile": (64, 64, 1, 1, 0, 1),
    "part of a panel": (32, 84, 1, 1, 0, 1),
    "part of a vector": (34, 5, 1, 1, 0, 1),
    "many panels": (20, 1000, 1, 1, 0, 1),
    "odd channels": (57, 33, 1, 1, 0, 1),
    "window": (64, 48, 3, 1, 1, 1),
    "stride": (16, 24, 3, 2, 1, 1),
    "photographs": (3, 32, 3, 2, 1, 1),
    "grey photographs": (1, 20, 3, 2, 1, 1),
    "dilation": (18, 16, 3, 1, 2, 2),
    "odd and dilated": (7, 16, 3, 1, 2, 3),
    "not square": (16, 16, (3, 5), (2, 1), (0, 2), (1, 2)),
    "large window": (4, 16, 7, 1, 3, 1),
    "strided pixels": (24, 40, 1, 2, 0, 1),
}
MAPS = [(1, 1, 1), (1, 7, 7), (2, 14, 14), (3, 9, 11), (1, 61, 8), (1, 3, 50)]


def rounded(conv: nn.Conv2d, dtype: torch.dtype) -> nn.Conv2d:
    """Round the weight, so that rounding it again changes nothing; return float64."""
    conv.weight.data = conv.weight.data.to(dtype).double()
    return conv.double()


def fits(conv: nn.Conv2d, height: int, width: int) -> bool:
    spans = ((k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    assert not isinstance(conv.padding, str)
    sides = (side + 2 * p for side, p in zip((height, width), conv.padding, strict=True))
    return all(side >= span for side, span in zip(sides, spans, strict=True))


def assert_relative(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert_close(got.double(), want, rtol=0, atol=tolerance * float(want.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONVS)
def test_it_convolves_maps_of_any_size(name: str, dtype: torch.dtype) -> None:
    channels, results, kernel, stride, padding, dilation = CONVS[name]
    conv = filled(nn.Conv2d(channels, results, kernel, stride, padding, dilation))
    conv = rounded(conv, dtype)
    layer = DenseConv(conv, dtype)
    tried = 0
    for batch, height, width in MAPS:
        if not fits(conv, height, width):
            continue
        features = random_map(batch, channels, height, width).to(dtype)
        got = layer(features)
        assert got.dtype == dtype
        assert got.permute(0, 2, 3, 1).is_contiguous()
        assert_relative(got, conv(features.double()), TOLERANCES[dtype])
        tried += 1
    assert tried >= 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_activates(activation: Activation, dtype: torch.dtype) -> None:
    conv = rounded(filled(nn.Conv2d(32, 48, 1)), dtype)
    features = random_map(2, 32, 9, 12).to(dtype) * 4
    got = DenseConv(conv, dtype, activation)(features)
    assert_relative(got, FUNCTIONS[activation](conv(features.double())), TOLERANCES[dtype])


def test_gelu_of_bfloat16_is_exact_to_5e_5_before_it_is_rounded() -> None:
    values = torch.cat((torch.linspace(-8, 8, 4001), torch.tensor([-1e30, -100.0, 0.0, 100.0])))
    values = values.bfloat16()
    identity = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(identity.weight)
    got = DenseConv(identity, torch.bfloat16, "gelu")(values.view(1, 1, 1, -1)).flatten().double()
    want = F.gelu(values.double())
    # Half a unit of bfloat16's last place beside the polynomial's error.
    assert ((got - want).abs() <= 5e-5 + want.abs() * 2**-8).all()
    nan = torch.full((1, 1, 1, 1), torch.nan, dtype=torch.bfloat16)
    assert DenseConv(identity, torch.bfloat16, "gelu")(nan).isnan()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_adds_to_a_map_in_place(dtype: torch.dtype) -> None:
    conv = rounded(filled(nn.Conv2d(16, 24, 1)), dtype)
    features = random_map(2, 16, 9, 12).to(dtype)
    total = random_map(2, 24, 9, 12).to(dtype).to(memory_format=torch.channels_last)
    want = total.double() + conv(features.double())
    assert DenseConv(conv, dtype).add_to(total, features) is total
    assert_relative(total, want, TOLERANCES[dtype])


def test_another_bias_takes_the_convolutions_place() -> None:
    conv, bias = filled(nn.Conv2d(16, 8, 1)), torch.arange(8.0)
    features = random_map(1, 16, 2, 2).float()
    want = F.conv2d(features, conv.float().weight, bias)
    got = DenseConv(conv, torch.float32, bias=bias.double())(features)
    assert_relative(got, want.double(), TOLERANCES[torch.float32])


def test_a_convolution_without_a_bias_adds_none() -> None:
    conv = filled(nn.Conv2d(16, 8, 1, bias=False)).double()
    features = random_map(1, 16, 3, 2)
    got = DenseConv(conv, torch.float32)(features.float())
    assert_relative(got, conv(features), TOLERANCES[torch.float32])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_no_number_stays_in_its_own_windows(dtype: torch.dtype) -> None:
    conv = filled(nn.Conv2d(3, 16, 3, padding=1))
    features = random_map(1, 3, 5, 9).to(dtype)
    features[0, :, 2, 7] = torch.nan
    broken = DenseConv(conv, dtype)(features).isnan().any(1)[0]
    assert broken[1:4, 6:9].all()
    assert int(broken.sum()) == 9


def test_no_images_have_no_results() -> None:
    layer = DenseConv(filled(nn.Conv2d(16, 24, 3, padding=1)), torch.float32)
    assert layer(torch.empty(0, 16, 5, 7)).shape == (0, 24, 5, 7)


def test_threads_split_pixels_and_results() -> None:
    conv = filled(nn.Conv2d(32, 320, 1)).double()
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            for height in (1, 5, 40):
                features = random_map(1, 32, height, 7)
                got = DenseConv(conv, torch.float32)(features.float())
                assert_relative(got, conv(features), TOLERANCES[torch.float32])
    finally:
        torch.set_num_threads(threads)


def test_a_matrix_unit_is_left_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = filled(nn.Conv2d(16, 24, 1)).float()
    for has_unit in (True, False):
        monkeypatch.setattr(module, "_has_matrix_unit", lambda: has_unit)  # noqa: B023
        native = is_native(torch.float32)
        assert is_native(torch.bfloat16) == (native and not has_unit)
        for dtype in DTYPES:
            if dense_conv_unsupported_reason(dtype) is None:
                form = DenseConv if is_native(dtype) else PackedConv
                assert type(dense_conv(conv, dtype)) is form


@pytest.mark.parametrize("reason", [None, "oneDNN lacks it"])
def test_where_ours_is_not_taken_onednn_says_what_runs(
    monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    monkeypatch.setattr(module, "is_native", lambda _: False)
    monkeypatch.setattr(module, "packed_conv_unsupported_reason", lambda _: reason)
    assert dense_conv_unsupported_reason(torch.bfloat16) == reason
