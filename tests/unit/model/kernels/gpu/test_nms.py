"""The Triton kernels of non-maximum suppression keep what the plain path keeps."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from model.heads import nms as dispatch
from model.heads.boxes import box_areas
from support import torchvision_outputs
from support.box_problems import NMS_PROBLEMS, NmsProblem, crowd

STORED = torchvision_outputs.sources()["stored"]
"""torchvision's results, which the plain path equals too."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, kernel_device: str) -> Any:
    module = importlib.import_module("model.kernels.gpu.nms")
    if kernel_device == "cpu":
        # The interpreter combines words one by one; most problems need few of the networks' 256.
        monkeypatch.setattr(module, "WORDS", (1, 4, 16, 64))
    return module


@pytest.fixture
def dispatched(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return ``nms`` as it is where the kernels run."""
    monkeypatch.setattr(dispatch, "nms_triton", kernel.nms_triton, raising=False)
    monkeypatch.setattr(dispatch, "triton_unsupported_reason", lambda *tensors: None)
    monkeypatch.setattr(dispatch, "_kept", None)  # the plain path's, which is not to be called
    return dispatch.nms


@pytest.mark.slow
@pytest.mark.parametrize("name", NMS_PROBLEMS)
def test_kernels_keep_what_torchvision_keeps(
    dispatched: Any, kernel_device: str, name: str
) -> None:
    boxes, scores, groups, iou_threshold = NMS_PROBLEMS[name]
    on_device = [part.to(kernel_device) for part in (boxes, scores, groups)]
    # Equal: the IoUs that are compared with the threshold round alike.
    kept = dispatched(*on_device, iou_threshold)
    assert kept.tolist() == STORED[f"nms/{name}"].tolist()


def test_boxes_that_do_not_count_neither_stay_nor_suppress(
    dispatched: Any, kernel_device: str
) -> None:
    problem = NMS_PROBLEMS["two groups"]
    boxes, scores, groups = (part.to(kernel_device) for part in problem[:3])
    among = torch.arange(len(boxes), device=kernel_device) % 3 > 0
    want = among.nonzero().squeeze(1)[dispatched(boxes[among], scores[among], groups[among], 0.5)]
    assert dispatched(boxes, scores, groups, 0.5, among=among).tolist() == want.tolist()


@pytest.mark.parametrize("count", [31, 32, 33, 65])
def test_boxes_may_be_any_number(kernel: Any, kernel_device: str, count: int) -> None:
    # Pairs of equal boxes, far from each other: the second of each goes.
    left = torch.arange(count) // 2 * 20.0
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    kept = _kept(kernel, NmsProblem(boxes, left, torch.zeros(count).long(), 0.5), kernel_device)
    assert torch.equal(kept, torch.arange(count) % 2 == 0)


def test_every_second_of_a_chain_is_kept(kernel: Any, kernel_device: str) -> None:
    # Each box overlaps its neighbours alone (IoU 3/7), so each decision waits for the one before.
    left = torch.arange(75) * 4.0
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 1], dim=1)
    kept = _kept(kernel, NmsProblem(boxes, left, torch.zeros(75).long(), 0.4), kernel_device)
    assert torch.equal(kept, torch.arange(75) % 2 == 0)


def test_too_many_boxes_are_refused(kernel: Any, kernel_device: str) -> None:
    boxes = torch.zeros(32_769, 4)
    problem = NmsProblem(boxes, boxes[:, 0], boxes[:, 0].long(), 0.5)
    with pytest.raises(ValueError, match="32768 boxes can be decided together, not 32769"):
        _kept(kernel, problem, kernel_device)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    boxes = crowd("schema", 40).to(kernel_device)
    arguments = (boxes, box_areas(boxes), torch.zeros(40, device=kernel_device).long(), 0.5)
    torch.library.opcheck(
        kernel.nms_triton, arguments, test_utils=("test_schema", "test_faketensor")
    )


def _kept(kernel: Any, problem: NmsProblem, device: str) -> Tensor:
    boxes = problem.boxes.to(device)
    kept: Tensor = kernel.nms_triton(
        boxes, box_areas(boxes), problem.groups.to(device), problem.iou_threshold
    )
    return kept.cpu()
