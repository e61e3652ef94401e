"""The context's kernels compute what PyTorch's operators do, for odd sizes and both dtypes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.kernels.cpu.contexts import join_context, mix_keys, pool_to_grid
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from support.filled import random_map

pytestmark = [
    pytest.mark.skipif(
        cpu_kernels_unsupported_reason() is not None, reason=str(cpu_kernels_unsupported_reason())
    ),
    pytest.mark.usefixtures("instructions"),
]

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCES = {
    torch.float32: 2e-6,  # of the largest value: float32 sums of at most some hundred products
    torch.bfloat16: 2**-8,  # the result is rounded to 8 significant bits
}
JOINED = [
    # B, H, W, C, C_context
    (1, 1, 1, 16, 16),
    (1, 14, 14, 64, 16),
    (3, 15, 13, 36, 20),
    (2, 7, 9, 88, 7),
]


def maps_of(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return features and context, channels of one map."""
    *sides, channels, context = shape
    wide = random_map(*sides, channels + context).to(dtype)
    return wide[..., :channels], wide[..., channels:]


def assert_relative(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == dtype
    bound = TOLERANCES[dtype] * float(want.abs().max())
    assert_close(got.double(), want.double(), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", JOINED, ids=str)
def test_a_context_is_laid_beside_the_features(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    features, context = maps_of(shape, dtype)
    assert torch.equal(join_context(features, context), torch.cat((features, context), dim=3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", JOINED, ids=str)
def test_a_context_is_scaled_and_added_to_the_initial_one(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    features, context = maps_of(shape, dtype)
    initial = random_map(*context.shape).to(dtype) + 1
    bias, initial_scale, scale = scales = random_map(3, context.shape[3]).to(dtype)
    got = join_context(features, context, initial, scales.float())
    begun = torch.addcmul(bias, initial, initial_scale)
    want = torch.cat((features, torch.addcmul(begun, context, scale)), dim=3)
    assert_relative(got, want, dtype)


def test_maps_to_join_may_have_any_memory_format() -> None:
    features, context = maps_of((2, 5, 7, 24, 8), torch.float32)
    channels_first = features.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    got = join_context(channels_first, context)
    assert torch.equal(got, join_context(features, context))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", [1, 5, 7])
@pytest.mark.parametrize("shape", JOINED, ids=str)
def test_a_grid_is_pooled(shape: tuple[int, ...], side: int, dtype: torch.dtype) -> None:
    _, context = maps_of(shape, dtype)
    want = F.adaptive_avg_pool2d(context.double().permute(0, 3, 1, 2), side)
    assert_relative(pool_to_grid(context, side), want.permute(0, 2, 3, 1), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("taps", [34, 50, 194])
@pytest.mark.parametrize(("groups", "depth"), [(1, 32), (4, 16), (3, 7)])
def test_keys_are_mixed(groups: int, depth: int, taps: int, dtype: torch.dtype) -> None:
    keys = random_map(2, 7, 7, groups * depth).to(dtype)
    mixture = random_map(taps, 49).to(dtype).float()
    # (B, S, S, G * D) -> (B, G, S * S, D)
    cells = keys.flatten(1, 2).unflatten(2, (groups, depth)).transpose(1, 2)
    assert_relative(mix_keys(mixture, keys, groups), mixture.double() @ cells.double(), dtype)
