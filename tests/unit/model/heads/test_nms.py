"""Non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from model.heads import nms as nms_module
from model.heads.nms import BLOCK, nms
from support.box_problems import NMS_PROBLEMS


@pytest.mark.parametrize("iou_threshold", [0.3, 0.7])
@pytest.mark.parametrize(
    ("boxes", "groups"), [(1, 1), (40, 3), (BLOCK + 1, 1), (2 * BLOCK + 10, 9)]
)
def test_result_is_the_greedy_loops(boxes: int, groups: int, iou_threshold: float) -> None:
    problem = _crowd(boxes, groups)
    assert nms(*problem, iou_threshold).tolist() == _greedy(*problem, iou_threshold)


def test_result_does_not_depend_on_how_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _crowd(300, 20)
    want = nms(*problem, 0.5)
    monkeypatch.setattr(nms_module, "BLOCK", 7)
    monkeypatch.setattr(nms_module, "MAXIMUM_PAIRS", 100)
    assert nms(*problem, 0.5).tolist() == want.tolist()


def test_every_second_of_a_chain_is_kept() -> None:
    # Each box overlaps its neighbours alone (IoU 3/7), so each decision waits for the one before.
    count = BLOCK + 50
    left = torch.arange(count) * 4.0
    boxes = torch.stack([left, torch.zeros(count), left + 10, torch.ones(count)], dim=1)
    scores = torch.linspace(1, 0, count)
    kept = nms(boxes, scores, torch.zeros(count, dtype=torch.int64), 0.4)
    assert kept.tolist() == list(range(0, count, 2))


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [4.0, 0.0, 14.0, 1.0], [8.0, 0.0, 18.0, 1.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, torch.zeros(3, dtype=torch.int64), 0.4).tolist() == [0, 2]


def test_of_equal_scores_the_earlier_box_wins() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(4, 1)
    groups = torch.tensor([1, 0, 1, 0])
    assert nms(boxes, torch.full((4,), 0.5), groups, 0.5).tolist() == [0, 1]


def test_an_iou_of_the_threshold_itself_suppresses_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    groups = torch.zeros(2, dtype=torch.int64)
    assert nms(boxes, torch.tensor([0.9, 0.8]), groups, 0.5).tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), groups, 0.499).tolist() == [0]


def test_boxes_of_different_groups_never_meet() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(3, 1)
    groups = torch.tensor([7, 3, 7])
    assert nms(boxes, torch.tensor([0.1, 0.2, 0.3]), groups, 0.5).tolist() == [2, 1]


def test_boxes_without_area_are_all_kept() -> None:
    groups = torch.zeros(3, dtype=torch.int64)
    assert nms(torch.zeros(3, 4), torch.tensor([0.1, 0.2, 0.3]), groups, 0.5).tolist() == [2, 1, 0]


def test_no_boxes_leave_none() -> None:
    kept = nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_boxes_that_do_not_count_neither_stay_nor_suppress() -> None:
    boxes, scores, groups = _crowd(200, 5)
    among = torch.arange(200) % 3 > 0
    counted = among.nonzero().squeeze(1)
    want = counted[nms(boxes[among], scores[among], groups[among], 0.5)]
    assert nms(boxes, scores, groups, 0.5, among=among).tolist() == want.tolist()


@pytest.mark.parametrize("name", NMS_PROBLEMS)
def test_result_is_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    # Equal: the IoUs that are compared with the threshold round alike.
    assert nms(*NMS_PROBLEMS[name]).tolist() == torchvisions[f"nms/{name}"].tolist()


def _crowd(boxes: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, with many equal scores, in groups of different sizes."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(boxes, 2, generator=generator) * 30
    sides = torch.rand(boxes, 2, generator=generator) * 20 + 5
    scores = torch.randint(0, max(2, boxes // 3), (boxes,), generator=generator) / boxes
    group = torch.rand(boxes, generator=generator).square() * groups
    return torch.cat([corners, corners + sides], dim=1), scores, group.long()


def _greedy(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> list[int]:
    corners, ranks, owners = boxes.tolist(), scores.tolist(), groups.tolist()
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda at: (-ranks[at], at)):
        if all(
            owners[other] != owners[index] or _iou(corners[other], corners[index]) <= iou_threshold
            for other in kept
        ):
            kept.append(index)
    return kept


def _iou(box: list[float], other: list[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    intersection = max(width, 0) * max(height, 0)
    area, other_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return intersection / (area + other_area - intersection)
