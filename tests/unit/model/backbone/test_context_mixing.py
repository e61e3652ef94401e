"""ContMix as a layer: small maps, and the folded form."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from model.backbone.context_mixing import ContextMixing, FoldedContextMixing, enlarged_size
from model.lowering.folding import fold
from support.filled import filled, random_map

CHANNELS, CONTEXT_CHANNELS, GROUPS = 12, 5, 3
EXACT = 1e-11  # float64, through two softmaxes


@pytest.fixture(params=[13, 7])
def layer(request: pytest.FixtureRequest) -> ContextMixing:
    return filled(
        ContextMixing(
            CHANNELS,
            CONTEXT_CHANNELS,
            GROUPS,
            kernel_size=request.param,
            small_kernel=5,
            context_grid=7,
        )
    )


@pytest.mark.parametrize(
    ("height", "width"), [(13, 13), (14, 14), (30, 17), (12, 40), (9, 9), (6, 20), (2, 1), (1, 1)]
)
def test_folded_layer_is_the_same_function(layer: ContextMixing, height: int, width: int) -> None:
    values, guided = _inputs(2, height, width)
    folded = _folded(layer)
    assert_close(folded(values, guided), layer(values, guided), rtol=0, atol=EXACT)


def test_folded_layer_keeps_channels_last(layer: ContextMixing) -> None:
    values, guided = (
        part.contiguous(memory_format=torch.channels_last) for part in _inputs(2, 15, 20)
    )
    result = _folded(layer)(values, guided)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_close(
        result.contiguous(),
        layer(values.contiguous(), guided.contiguous()).contiguous(),
        rtol=0,
        atol=EXACT,
    )


def test_small_map_is_attended_at_the_kernels_size_and_pooled_back(layer: ContextMixing) -> None:
    values, guided = _inputs(1, 5, 6)
    size = enlarged_size(5, 6, layer.kernel_size)
    enlarged = (F.interpolate(part, size=size, mode="bilinear") for part in (values, guided))
    assert_close(
        layer(values, guided), F.adaptive_avg_pool2d(layer(*enlarged), (5, 6)), rtol=0, atol=EXACT
    )


def test_query_scale_counts_a_heads_value_channels_not_its_query_channels() -> None:
    layer = ContextMixing(64, 16, 4, kernel_size=7, small_kernel=5, context_grid=7)
    assert layer.query_scale == (64 / 4) ** -0.5


def test_folding_needs_folded_queries(layer: ContextMixing) -> None:
    with pytest.raises(AssertionError, match="fold the query's norm first"):
        layer.folded()


@pytest.mark.parametrize("kernel_size", [13, 7])
def test_map_that_holds_the_window_keeps_its_size(kernel_size: int) -> None:
    for height, width in ((kernel_size, kernel_size), (kernel_size, 99), (99, kernel_size)):
        assert enlarged_size(height, width, kernel_size) == (height, width)


@pytest.mark.parametrize("kernel_size", [13, 7])
def test_enlarged_map_always_holds_the_window(kernel_size: int) -> None:
    # The sizes come from float expressions, which could fall just short of a whole number.
    for short in range(1, kernel_size):
        for long in range(short, 400):
            for size in ((short, long), (long, short)):
                assert min(enlarged_size(*size, kernel_size)) == kernel_size


def test_enlarged_size_is_the_authors_float_expression() -> None:
    # 13 / 3 * 27 is 116.99999999999999 in floats; integer arithmetic would give 117.
    assert enlarged_size(3, 27, 13) == (13, 116)
    assert enlarged_size(27, 3, 13) == (116, 13)
    assert enlarged_size(7, 9, 13) == (13, 16)


def _folded(layer: ContextMixing) -> FoldedContextMixing:
    folded = fold(nn.Sequential(copy.deepcopy(layer)).eval())[0]
    assert isinstance(folded, FoldedContextMixing)
    return folded


def _inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return values (B, C, H, W) and guided (B, C + C_context, H, W)."""
    joint = random_map(batch, 2 * CHANNELS + CONTEXT_CHANNELS, height, width)
    values, guided = joint.tensor_split([CHANNELS], dim=1)
    return values.contiguous(), guided.contiguous()
