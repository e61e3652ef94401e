"""The segmenter's head on its own; its numbers are checked in tests/golden."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.config import BACKBONES
from model.heads.upernet import UPerHead, UPerNet
from model.lowering.folding import fold
from support.filled import filled, random_map

WIDTHS = (5, 6, 7, 8)


def maps(height: int, width: int, batch: int = 1) -> list[torch.Tensor]:
    """Four maps whose strides double, rounded up."""
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(4)]
    return [random_map(batch, c, h, w) for c, (h, w) in zip(WIDTHS, sizes, strict=True)]


def head() -> UPerHead:
    return filled(UPerHead(WIDTHS, 4, 3))


@pytest.mark.parametrize("size", [(16, 16), (9, 21), (8, 8), (1, 5)])
def test_every_pixel_of_the_finest_map_is_classified(size: tuple[int, int]) -> None:
    assert head()(maps(*size)).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(16, 24), (9, 21)])
def test_folding_changes_nothing(size: tuple[int, int]) -> None:
    network = head()
    features = maps(*size, batch=3)
    want = network(features)
    assert_close(fold(network)(features), want, rtol=0, atol=1e-12 * want.abs().max().item())


def test_a_coarse_level_reaches_every_finer_one() -> None:
    network, features = head(), maps(16, 16)
    changed = [*features[:3], features[3] + 1]
    fused: list[list[torch.Tensor]] = []
    network.fuse.register_forward_pre_hook(lambda _, inputs: fused.append(inputs[0]))
    for each in (features, changed):
        network(each)
    before, after = fused
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_pixels_do_not_depend_on_the_other_images() -> None:
    network, features = head(), maps(12, 20, batch=3)
    alone = [network([level[index : index + 1] for level in features]) for index in range(3)]
    assert_close(network(features), torch.cat(alone), rtol=0, atol=1e-12)


def test_the_network_classifies_at_a_quarter_of_the_input() -> None:
    network = UPerNet(BACKBONES["nano"], 8, 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(3, 3, 64, 96)).shape == (3, 5, 16, 24)


def test_levels_are_added_after_resizing_them_bilinearly() -> None:
    network, features = head(), maps(4, 6)
    smooth: list[torch.Tensor] = []
    network.smooth[2].register_forward_pre_hook(lambda _, inputs: smooth.append(inputs[0]))
    network(features)
    deepest = network._pool_pyramid(features[3])
    size = features[2].shape[2:]
    want = F.relu(network.laterals[2](features[2])) + F.interpolate(
        deepest, size=size, mode="bilinear", align_corners=False
    )
    assert_close(smooth[0], want)
