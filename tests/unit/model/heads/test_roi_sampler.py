"""RoIAlign is the plain path's on a CPU, and the kernel's where that runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.heads import roi_sampler as module
from model.heads.roi_align import PyramidPixels, roi_align
from model.heads.roi_sampler import roi_sampler
from support.box_problems import PYRAMID, PYRAMID_BOXES


def test_cpu_samples_by_the_plain_path() -> None:
    pooled = roi_sampler(PYRAMID)(PYRAMID_BOXES, 3)
    assert torch.equal(pooled, roi_align(PyramidPixels.of(PYRAMID), PYRAMID_BOXES, 3))


def test_kernel_is_given_the_levels_that_boxes_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def kernel(levels: list[Tensor], boxes: Tensor, *numbers: int) -> Tensor:
        calls.append((levels, boxes, numbers))
        return PYRAMID_BOXES

    monkeypatch.setattr(module, "triton_unsupported_reason", lambda *tensors: None)
    monkeypatch.setattr(module, "roi_align_triton", kernel, raising=False)
    assert roi_sampler([*PYRAMID, PYRAMID[-1]])(PYRAMID_BOXES, 7) is PYRAMID_BOXES
    ((levels, boxes, numbers),) = calls
    assert all(level is want for level, want in zip(levels, PYRAMID, strict=True))
    assert boxes is PYRAMID_BOXES
    assert numbers == (7, 4, 56)
