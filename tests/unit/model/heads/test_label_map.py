"""Label maps: equal to resizing everything, in a fraction of the memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.heads import label_map as module
from model.heads.label_map import label_map


def reference(logits: Tensor, network_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Resize all logits twice and take the best class, in float64."""
    wide = F.interpolate(logits[None].double(), size=network_size, mode="bilinear")
    whole = F.interpolate(wide, size=size, mode="bilinear")
    return whole[0].argmax(dim=0).to(torch.uint8)


def noise(classes: int, height: int, width: int) -> Tensor:
    return torch.randn(classes, height, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("classes", "cells", "size"),
    [
        (150, (32, 44), (375, 500)),
        (11, (8, 8), (1, 1)),
        (5, (8, 56), (7, 901)),
        (256, (16, 16), (64, 64)),
        (1, (8, 8), (30, 20)),
        (2, (1, 1), (33, 9)),
        (11, (56, 80), (100, 37)),
        (3, (17, 9), (68, 36)),
    ],
)
def test_equals_resizing_all_logits(
    classes: int, cells: tuple[int, int], size: tuple[int, int]
) -> None:
    logits = noise(classes, *cells)
    network_size = (4 * cells[0], 4 * cells[1])
    got, want = label_map(logits, network_size, size), reference(logits, network_size, size)
    assert got.shape == size
    # float32 may tip a pixel that lies on the line between two classes.
    assert (got != want).float().mean() <= 1e-4


def test_smooth_logits_leave_out_most_classes_and_no_winner() -> None:
    coarse = noise(60, 4, 5)
    logits = F.interpolate(coarse[None], size=(32, 40), mode="bicubic")[0]
    got = label_map(logits, (128, 160), (300, 411))
    assert len(got.unique()) > 5
    assert (got != reference(logits, (128, 160), (300, 411))).float().mean() <= 1e-4


def test_the_largest_class_of_a_uniform_map_is_everywhere() -> None:
    logits = torch.zeros(4, 8, 8)
    logits[3] = 1
    assert (label_map(logits, (32, 32), (50, 60)) == 3).all()


def test_a_tile_that_does_not_fit_its_memory_is_made_in_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = noise(7, 8, 8)
    whole = label_map(logits, (32, 32), (90, 70))
    monkeypatch.setattr(module, "TILE_BYTES", 4 * 7 * 70 * 3)
    assert torch.equal(label_map(logits, (32, 32), (90, 70)), whole)


def test_more_classes_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="256 classes, not 257"):
        label_map(torch.zeros(257, 8, 8), (32, 32), (32, 32))


def test_the_longest_strip_is_segmented_too() -> None:
    # 32,768 by 1 pixels are the longest side that is served; the network sees 32 by 2048 of them.
    logits = noise(11, 8, 512)
    got = label_map(logits, (32, 2048), (1, 32_768))
    assert (got != reference(logits, (32, 2048), (1, 32_768))).float().mean() <= 1e-4


def test_bfloat16_logits_are_resized_in_float32() -> None:
    logits = noise(9, 8, 8).bfloat16()
    want = label_map(logits.float(), (32, 32), (61, 47))
    assert torch.equal(label_map(logits, (32, 32), (61, 47)), want)


def test_cpu_does_not_take_the_kernel_of_a_gpu() -> None:
    assert not module._kernel_takes(noise(3, 8, 8), (32, 32))


def test_kernel_of_a_gpu_takes_what_networks_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "triton_unsupported_reason", lambda *tensors: None)
    assert module._kernel_takes(noise(3, 8, 9), (32, 36))
    assert not module._kernel_takes(noise(3, 8, 9), (32, 8))  # shrinks before it grows
