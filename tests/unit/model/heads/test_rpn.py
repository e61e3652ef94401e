"""The region proposal network."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from model.heads import rpn as rpn_module
from model.heads.nms import nms
from model.heads.rpn import RegionProposalNetwork
from support.filled import filled, random_map

MAP_SIZES = ((10, 14), (5, 7), (3, 4), (2, 2), (1, 1))
INPUT_SIZE = (40, 56)
SIZE = (35, 50)


def test_proposals_are_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpn_module, "CANDIDATES_PER_LEVEL", 40)
    monkeypatch.setattr(rpn_module, "MAXIMUM_PROPOSALS", 40)
    network, pyramid = _network(), _pyramid(1)
    boxes, scores = _by_loops(network, pyramid, SIZE, candidates=40, proposals=40)
    proposals = network(pyramid, [SIZE])[0]
    assert len(boxes) == 40, "the limit should matter"
    assert_close(proposals.boxes, boxes, rtol=0, atol=1e-5)  # the anchors are float32
    assert_close(proposals.scores, scores, rtol=0, atol=1e-12)


def test_proposals_are_ranked_and_inside_their_image() -> None:
    small, large = _network()(_pyramid(2), [SIZE, INPUT_SIZE])
    for proposals, (height, width) in ((small, SIZE), (large, INPUT_SIZE)):
        x1, y1, x2, y2 = proposals.boxes.unbind(dim=1)
        assert (proposals.scores.diff() <= 0).all()
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 > x1).all()
        assert (y2 > y1).all()
        assert (x2.max().item(), y2.max().item()) == (width, height)


def test_an_images_proposals_do_not_depend_on_its_batch() -> None:
    network, pyramid = _network(), _pyramid(2)
    together = network(pyramid, [SIZE, INPUT_SIZE])
    for index, size in enumerate((SIZE, INPUT_SIZE)):
        alone = network([level[index : index + 1] for level in pyramid], [size])[0]
        assert_close(together[index].boxes, alone.boxes, rtol=0, atol=1e-9)  # float64
        assert_close(together[index].scores, alone.scores, rtol=0, atol=1e-12)


def test_boxes_that_all_lie_outside_leave_no_proposals() -> None:
    network = _network()
    nn.init.zeros_(network.regress.weight)
    nn.init.constant_(
        cast("Tensor", network.regress.bias), 1000.0
    )  # a thousand widths to the right
    proposals = network(_pyramid(1), [SIZE])[0]
    assert proposals.boxes.shape == (0, 4)
    assert proposals.scores.shape == (0,)


def test_boxes_of_a_bfloat16_network_are_float32() -> None:
    network = _network().bfloat16()
    proposals = network([level.bfloat16() for level in _pyramid(1)], [SIZE])[0]
    assert proposals.boxes.dtype == proposals.scores.dtype == torch.float32
    assert len(proposals.boxes) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_proposes_what_a_cpu_proposes() -> None:
    network, pyramid = _network(), _pyramid(1)
    want = network(pyramid, [SIZE])[0]
    got = network.cuda()([level.cuda() for level in pyramid], [SIZE])[0]
    assert_close(got.boxes.cpu(), want.boxes, rtol=0, atol=1e-9)  # float64
    assert_close(got.scores.cpu(), want.scores, rtol=0, atol=1e-12)


def _network() -> RegionProposalNetwork:
    network = filled(RegionProposalNetwork(8))
    network.regress.weight.mul_(0.3)  # boxes near their anchors, so that many overlap
    return network


def _pyramid(batch: int) -> list[Tensor]:
    return [random_map(batch, 8, *size) for size in MAP_SIZES]


def _by_loops(
    network: RegionProposalNetwork,
    pyramid: list[Tensor],
    size: tuple[int, int],
    *,
    candidates: int,
    proposals: int,
) -> tuple[Tensor, Tensor]:
    """Anchor by anchor, as the definition goes."""
    found: list[tuple[float, list[float], int]] = []
    for level, features in enumerate(pyramid):
        hidden = F.relu(network.conv(features))
        logits, deltas = network.classify(hidden)[0], network.regress(hidden)[0]
        stride = 4 << level
        level_found = []
        for row in range(features.shape[2]):
            for column in range(features.shape[3]):
                for anchor, ratio in enumerate((0.5, 1.0, 2.0)):
                    dx, dy, dw, dh = deltas[4 * anchor : 4 * anchor + 4, row, column].tolist()
                    width, height = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
                    x, y = column * stride + dx * width, row * stride + dy * height
                    half_width, half_height = width * math.exp(dw) / 2, height * math.exp(dh) / 2
                    box = [
                        min(max(x - half_width, 0), size[1]),
                        min(max(y - half_height, 0), size[0]),
                        min(max(x + half_width, 0), size[1]),
                        min(max(y + half_height, 0), size[0]),
                    ]
                    score = logits[anchor, row, column].sigmoid().item()
                    level_found.append((score, box, level))
        found += sorted(level_found, key=lambda candidate: -candidate[0])[:candidates]
    found = [
        (score, box, level) for score, box, level in found if box[2] > box[0] and box[3] > box[1]
    ]
    scores = torch.tensor([score for score, _, _ in found], dtype=torch.float64)
    boxes = torch.tensor([box for _, box, _ in found], dtype=torch.float64)
    best = nms(boxes, scores, torch.tensor([level for _, _, level in found]), 0.7)[:proposals]
    return boxes[best], scores[best]
