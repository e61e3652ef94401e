"""The pyramid's convolution: its inference form is the same function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.heads.pyramid_conv import PyramidConv, shifted_resizing
from support.filled import filled, random_map

CHANNELS = 5


def levels(height: int, width: int, batch: int = 1, count: int = 4) -> list[Tensor]:
    """Levels whose strides double, rounded up."""
    return [
        random_map(batch, CHANNELS, -(-height // 2**level), -(-width // 2**level)) + level
        for level in range(count)
    ]


@pytest.mark.parametrize(
    ("height", "width", "batch"), [(32, 48, 1), (16, 16, 3), (9, 21, 2), (1, 7, 1), (3, 1, 1)]
)
def test_folding_changes_nothing(height: int, width: int, batch: int) -> None:
    network = filled(PyramidConv(4, CHANNELS))
    maps = levels(height, width, batch)
    want = network(maps)
    assert_close(network.folded()(maps), want, rtol=0, atol=1e-12 * want.abs().max().item())


def test_a_pass_in_inference_mode_leaves_nothing_behind_that_training_trips_over() -> None:
    network = filled(PyramidConv(4, CHANNELS)).folded()
    maps = levels(8, 40)
    with torch.inference_mode():
        network(maps)
    network([level.requires_grad_() for level in maps]).sum().backward()
    assert maps[3].grad is not None


def test_two_levels_fold_too() -> None:
    network = filled(PyramidConv(2, CHANNELS))
    maps = levels(10, 12, count=2)
    assert_close(network.folded()(maps), network(maps), rtol=1e-12, atol=1e-12)


def test_channels_last_gives_the_same() -> None:
    network = filled(PyramidConv(4, CHANNELS)).folded()
    maps = levels(16, 24, 2)
    want = network(maps)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    got = network([level.contiguous(memory_format=torch.channels_last) for level in maps])
    assert_close(got.contiguous(), want.contiguous(), rtol=1e-12, atol=1e-12)


def test_bfloat16_stays_near() -> None:
    network = filled(PyramidConv(4, CHANNELS), torch.float32).folded()
    maps = [level.float() for level in levels(16, 24)]
    want = network(maps)
    got = network.bfloat16()([level.bfloat16() for level in maps]).float()
    assert (got - want).norm() < 2e-2 * want.norm()  # bfloat16 keeps 8 significant bits


@pytest.mark.parametrize(("start", "size"), [(4, 8), (3, 7), (5, 5), (1, 4), (6, 3)])
def test_a_tap_sees_the_resized_line_shifted_by_a_pixel(start: int, size: int) -> None:
    line = random_map(1, 1, start)
    resized = F.interpolate(line, size=size, mode="linear")[0, 0]
    matrices = shifted_resizing(start, size, line.device, line.dtype)
    before, same, after = (matrix @ line[0, 0] for matrix in matrices)
    assert_close(same, resized)
    assert_close(before, F.pad(resized, (1, 0))[:-1])
    assert_close(after, F.pad(resized, (0, 1))[1:])


def test_a_matrix_stays_where_it_is_while_the_module_lives() -> None:
    network = filled(PyramidConv(4, CHANNELS)).folded()
    like = torch.zeros(())
    first = network._resizing(1, 2, like)
    for start in range(2, 400):
        network._resizing(start, 2, like)
    assert network._resizing(1, 2, like) is first  # a recording reads it by address
