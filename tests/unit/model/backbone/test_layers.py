"""Every small part's formula, and that its folded form is the same function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from model.backbone.layers import (
    ConvNorm,
    DropPath,
    FeedForward,
    GlobalResponseNorm,
    LayerNorm2d,
    LayerScale,
    NormConv,
    ResidualDepthwise,
    SqueezeExcite,
    depthwise,
)
from support.filled import filled, random_map

EXACT = 1e-12  # float64, short sums
CHANNELS = 6


@pytest.mark.parametrize(
    "layer",
    [
        ConvNorm(nn.Conv2d(CHANNELS, 4, 3, stride=2, padding=1, bias=False), 4),
        ConvNorm(nn.Conv2d(CHANNELS, 4, 1), 4),
        ConvNorm(depthwise(CHANNELS, 5, dilation=2, bias=True), CHANNELS),
        NormConv(CHANNELS, 9),
        ResidualDepthwise(CHANNELS),
    ],
    ids=["strided", "pointwise", "dilated", "norm first", "residual"],
)
def test_folded_layer_is_the_same_function(
    layer: ConvNorm | NormConv | ResidualDepthwise,
) -> None:
    layer = filled(layer)
    features = random_map(2, CHANNELS, 7, 10)
    folded = layer.folded()
    assert isinstance(folded, nn.Conv2d)
    assert_close(folded(features), layer(features), rtol=0, atol=EXACT)


def test_folding_leaves_the_layer_alone() -> None:
    layer = filled(ResidualDepthwise(CHANNELS))
    before = layer.conv.weight.clone()
    layer.folded()
    assert_close(layer.conv.weight, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_folded_layer_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert filled(NormConv(CHANNELS, 3), dtype).folded().weight.dtype == dtype


def test_residual_depthwise_adds_its_input() -> None:
    layer = filled(ResidualDepthwise(CHANNELS))
    features = random_map(1, CHANNELS, 5, 5)
    conv = layer.conv
    want = features + F.conv2d(features, conv.weight, conv.bias, padding=1, groups=CHANNELS)
    assert_close(layer(features), want, rtol=0, atol=EXACT)


def test_layer_norm_normalises_every_pixel_over_its_channels() -> None:
    layer = filled(LayerNorm2d(CHANNELS))
    features = random_map(2, CHANNELS, 3, 4)
    centred = features - features.mean(dim=1, keepdim=True)
    normal = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    want = normal * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
    assert_close(layer(features), want, rtol=0, atol=EXACT)


def test_layer_scale_multiplies_and_adds_per_channel() -> None:
    layer = filled(LayerScale(CHANNELS))
    features = random_map(2, CHANNELS, 3, 4)
    want = features * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
    assert_close(layer(features), want, rtol=0, atol=EXACT)


def test_response_norm_follows_its_formula() -> None:
    layer = filled(GlobalResponseNorm(CHANNELS))
    features = random_map(2, CHANNELS, 3, 4)
    energy = features.square().sum(dim=(2, 3), keepdim=True).sqrt()
    relative = energy / (energy.mean(dim=1, keepdim=True) + 1e-6)
    assert_close(
        layer(features), (layer.gamma * relative + 1) * features + layer.beta, rtol=0, atol=EXACT
    )


def test_response_norm_sums_bfloat16_squares_in_float32() -> None:
    layer = GlobalResponseNorm(2).bfloat16().requires_grad_(requires_grad=False)
    layer.gamma.fill_(1)
    # One channel of 4096 ones, one of a single one. A bfloat16 sum of ones stays at 256: norms of
    # 16 and 1, and 1.12 for the single pixel. In truth they are 64 and 1, and it is 1.03.
    features = torch.zeros(1, 2, 64, 64, dtype=torch.bfloat16)
    features[:, 0] = 1
    features[:, 1, 0, 0] = 1
    want = torch.tensor(1 + 1 / 32.5)
    # bfloat16 keeps 8 significant bits
    assert_close(layer(features)[0, 1, 0, 0].float(), want, rtol=1e-2, atol=0)


@pytest.mark.parametrize(("channels", "hidden"), [(56, 16), (128, 16), (136, 17), (512, 64)])
def test_squeeze_excite_has_an_eighth_of_the_channels_but_at_least_16(
    channels: int, hidden: int
) -> None:
    assert SqueezeExcite(channels).reduce.out_channels == hidden


def test_squeeze_excite_gates_by_the_mean_alone() -> None:
    layer = filled(SqueezeExcite(CHANNELS))
    features = random_map(2, CHANNELS, 3, 4)
    hidden = F.gelu(layer.reduce(features.mean(dim=(2, 3), keepdim=True)))
    assert_close(layer(features), features * layer.expand(hidden).sigmoid(), rtol=0, atol=EXACT)


def test_feed_forward_is_its_parts_in_order() -> None:
    layer = filled(FeedForward(CHANNELS, 12))
    features = random_map(1, CHANNELS, 4, 5)
    hidden = F.gelu(layer.expand(features))
    hidden = hidden + layer.position.conv(hidden)
    assert_close(layer(features), layer.project(layer.response_norm(hidden)), rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    "layer",
    [
        LayerNorm2d(CHANNELS),
        LayerScale(CHANNELS),
        GlobalResponseNorm(CHANNELS),
        SqueezeExcite(CHANNELS),
        FeedForward(CHANNELS, 12),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layer_keeps_channels_last(layer: nn.Module) -> None:
    layer = filled(layer)
    features = random_map(2, CHANNELS, 5, 7)
    channels_last = features.contiguous(memory_format=torch.channels_last)
    result = layer(channels_last)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_close(result.contiguous(), layer(features).contiguous(), rtol=0, atol=EXACT)


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    part = DropPath().train()
    part.rate = 0.25
    dropped = part(torch.ones(1000, 2, 3, 4))
    by_image = dropped.flatten(1)
    assert (by_image == by_image[:, :1]).all()
    assert {round(value, 4) for value in by_image[:, 0].unique().tolist()} == {0, 1.3333}
    assert abs(dropped.mean().item() - 1) < 0.06  # four standard deviations of the mean


@pytest.mark.parametrize(("training", "rate"), [(True, 0.0), (False, 0.9)])
def test_drop_path_without_a_rate_or_training_does_nothing(training: bool, rate: float) -> None:
    part = DropPath().train(training)
    part.rate = rate
    branch = torch.ones(2, 3, 4, 5)
    assert part(branch) is branch
