"""A whole detection by the Triton kernels finds what the plain paths find."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.testing import assert_close

from model.config import BACKBONES
from model.heads import nms as nms_dispatch
from model.heads import roi_sampler as roi_align_dispatch
from model.heads import rpn
from model.heads.mask_rcnn import MaskRCNN
from support.filled import filled, random_map

CANDIDATES, PROPOSALS = 12, 6
"""Few: interpreted, a row of bins takes ten milliseconds."""


@pytest.mark.slow
def test_kernels_detect_what_the_plain_paths_detect(
    monkeypatch: pytest.MonkeyPatch, kernel_device: str
) -> None:
    monkeypatch.setattr(rpn, "CANDIDATES_PER_LEVEL", CANDIDATES)
    monkeypatch.setattr(rpn, "MAXIMUM_PROPOSALS", PROPOSALS)
    network = filled(MaskRCNN(BACKBONES["nano"], 3, cascade=False), torch.float32)
    images = random_map(1, 3, 64, 96, dtype=torch.float32)
    with torch.inference_mode():
        maps = network.maps(images)
        (plain,) = network.detections(*maps, [(60, 90)], [(120, 180)])
        for dispatch, kernel in ((nms_dispatch, "nms"), (roi_align_dispatch, "roi_align")):
            module = importlib.import_module(f"model.kernels.gpu.{kernel}")
            operator = getattr(module, f"{kernel}_triton")
            monkeypatch.setattr(dispatch, f"{kernel}_triton", operator, raising=False)
            monkeypatch.setattr(dispatch, "triton_unsupported_reason", lambda *tensors: None)
        network.to(kernel_device)
        pyramid, candidates = maps
        (found,) = network.detections(
            [level.to(kernel_device) for level in pyramid],
            type(candidates)(*(part.to(kernel_device) for part in candidates)),
            [(60, 90)],
            [(120, 180)],
        )
    assert len(plain.boxes) > 5
    assert torch.equal(found.labels.cpu(), plain.labels)
    # Features agree to 1e-5, and go through layers of some hundred products.
    assert_close(found.boxes.cpu(), plain.boxes, rtol=0, atol=1e-2)
    assert_close(found.scores.cpu(), plain.scores, rtol=0, atol=1e-3)
    assert_close(found.masks.cpu(), plain.masks, rtol=0, atol=1e-3)
