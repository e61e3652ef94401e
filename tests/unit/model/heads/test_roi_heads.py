"""Box heads, mask heads, and how they follow each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from model.heads.boxes import clip_boxes, decode_boxes, pairwise_iou
from model.heads.detections import Detections
from model.heads.roi_align import PyramidPixels, roi_align
from model.heads.roi_heads import BoxHead, MaskHead, RoiHeads
from support.filled import filled, random_map

CHANNELS, HIDDEN, CLASSES = 6, 16, 4
SIZE = (90, 120)
NO_SCALE = torch.ones(4)

BOTH_KINDS = pytest.mark.parametrize("cascade", [False, True])


def test_box_head_reads_a_rois_features_channel_by_channel() -> None:
    head = filled(BoxHead(CHANNELS, HIDDEN, CLASSES, shared_deltas=False))
    features = random_map(5, CHANNELS, 7, 7)
    hidden = features.reshape(5, -1)
    for layer in head.shared:
        hidden = F.relu(layer(hidden))
    logits, deltas = head(features.contiguous(memory_format=torch.channels_last))
    _assert_exact(logits, F.linear(hidden, head.classify.weight, head.classify.bias))
    flat_deltas = F.linear(hidden, head.regress.weight, head.regress.bias)
    _assert_exact(deltas, flat_deltas.reshape(5, CLASSES, 4))


def test_mask_head_gives_the_labels_channel() -> None:
    head = filled(MaskHead(CHANNELS, CLASSES))
    features, labels = random_map(3, CHANNELS, 14, 14), torch.tensor([2, 0, 3])
    hidden = features
    for conv in head.convs:
        hidden = F.relu(conv(hidden))
    of_all_classes = head.classify(F.relu(head.upsample(hidden)))
    _assert_exact(head(features, labels), of_all_classes[[0, 1, 2], labels])


@BOTH_KINDS
def test_detections_are_ranked_scores_above_the_threshold(cascade: bool) -> None:
    detections = _heads(cascade=cascade)(_pyramid(), _proposals(300), SIZE, NO_SCALE)
    assert len(detections.scores) == 100, "the limit should matter"
    assert (detections.scores.diff() <= 0).all()
    assert detections.scores.min() > 0.05
    assert (detections.labels < CLASSES).all()
    assert detections.masks.shape == (100, 28, 28)
    for label in range(CLASSES):
        boxes = detections.boxes[detections.labels == label]
        iou = pairwise_iou(boxes, boxes).triu(diagonal=1)
        assert not (iou > 0.5).any()


def test_mask_rcnn_takes_each_classs_own_box() -> None:
    heads, pyramid, proposals = _heads(cascade=False), _pyramid(), _proposals(1)
    logits, deltas = heads.box_heads[0](roi_align(PyramidPixels.of(pyramid), proposals, 7))
    scores = logits.softmax(dim=1)[0, :CLASSES]
    detections = heads(pyramid, proposals, SIZE, NO_SCALE)
    assert len(detections.labels) == int((scores > 0.05).sum()) > 1
    boxes = clip_boxes(decode_boxes(proposals, deltas[0], (0.1, 0.1, 0.2, 0.2)), SIZE)
    _assert_exact(detections.scores, scores[detections.labels])
    _assert_exact(detections.boxes, boxes[detections.labels])
    features = roi_align(PyramidPixels.of(pyramid), detections.boxes, 14)
    masks = heads.mask_heads[0](features, detections.labels).sigmoid()
    _assert_exact(detections.masks, masks)


def test_cascade_refines_boxes_and_averages_logits_and_masks() -> None:
    heads, pyramid, proposals = _heads(cascade=True), _pyramid(), _proposals(1)
    boxes, logits_of = proposals, []
    for head, stds in zip(
        heads.box_heads,
        ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)),
        strict=True,
    ):
        logits, deltas = head(roi_align(PyramidPixels.of(pyramid), boxes, 7))
        logits_of.append(logits)
        boxes = clip_boxes(decode_boxes(boxes, deltas[:, 0], stds), SIZE)
    scores = ((logits_of[0] + logits_of[1] + logits_of[2]) / 3).softmax(dim=1)[0, :CLASSES]
    detections = heads(pyramid, proposals, SIZE, NO_SCALE)
    assert len(detections.labels) == int((scores > 0.05).sum()) > 0
    _assert_exact(detections.scores, scores[detections.labels])
    _assert_exact(detections.boxes, boxes.expand(len(detections.boxes), 4))
    features = roi_align(PyramidPixels.of(pyramid), detections.boxes, 14)
    masks = [head(features, detections.labels).sigmoid() for head in heads.mask_heads]
    _assert_exact(detections.masks, (masks[0] + masks[1] + masks[2]) / 3)


@BOTH_KINDS
def test_boxes_are_scaled_to_the_original_image_and_masks_are_not(cascade: bool) -> None:
    heads, pyramid, proposals = _heads(cascade=cascade), _pyramid(), _proposals(40)
    plain = heads(pyramid, proposals, SIZE, NO_SCALE)
    scale = torch.tensor([0.5, 2.0, 0.5, 2.0])
    scaled = heads(pyramid, proposals, SIZE, scale)
    _assert_exact(scaled.boxes, plain.boxes / scale)
    _assert_exact(scaled.masks, plain.masks)
    assert torch.equal(scaled.labels, plain.labels)


@BOTH_KINDS
def test_no_proposals_give_no_detections(cascade: bool) -> None:
    heads = _heads(cascade=cascade).float()
    pyramid = [level.float() for level in _pyramid()]
    _assert_nothing(heads(pyramid, torch.zeros(0, 4), SIZE, NO_SCALE))


@BOTH_KINDS
def test_a_confident_background_gives_no_detections(cascade: bool) -> None:
    heads = _heads(cascade=cascade).float()
    for head in heads.box_heads:
        assert isinstance(head, BoxHead)
        head.classify.bias[CLASSES] = 100.0
    pyramid = [level.float() for level in _pyramid()]
    _assert_nothing(heads(pyramid, _proposals(9).float(), SIZE, NO_SCALE))


@BOTH_KINDS
def test_results_of_a_bfloat16_network_are_float32(cascade: bool) -> None:
    heads = _heads(cascade=cascade).bfloat16()
    pyramid = [level.bfloat16() for level in _pyramid()]
    detections = heads(pyramid, _proposals(20).float(), SIZE, NO_SCALE)
    assert len(detections.boxes) > 0
    for result in (detections.boxes, detections.scores, detections.masks):
        assert result.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@BOTH_KINDS
def test_a_gpu_detects_what_a_cpu_detects(cascade: bool) -> None:
    heads, pyramid, proposals = _heads(cascade=cascade), _pyramid(), _proposals(40)
    want = heads(pyramid, proposals, SIZE, NO_SCALE)
    on_gpu = heads.cuda()
    got = on_gpu([level.cuda() for level in pyramid], proposals.cuda(), SIZE, NO_SCALE.cuda())
    for name, tensor in vars(want).items():
        _assert_exact(getattr(got, name).cpu(), tensor)


def _heads(*, cascade: bool) -> RoiHeads:
    heads = filled(RoiHeads(CHANNELS, HIDDEN, CLASSES, cascade=cascade))
    for head in heads.box_heads:
        assert isinstance(head, BoxHead)
        nn.init.zeros_(head.classify.bias)  # so that many classes are likely
    return heads


def _pyramid() -> list[Tensor]:
    return [random_map(CHANNELS, 96 >> level, 128 >> level) for level in range(2, 7)]


def _proposals(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 80
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60 + 4
    return clip_boxes(torch.cat([corners, corners + sides], dim=1), SIZE)


def _assert_exact(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=1e-9)  # float64, coordinates of about 100


def _assert_nothing(detections: Detections) -> None:
    want = {"boxes": (0, 4), "scores": (0,), "labels": (0,), "masks": (0, 28, 28)}
    assert {name: tuple(tensor.shape) for name, tensor in vars(detections).items()} == want
    dtypes = {name: tensor.dtype for name, tensor in vars(detections).items()}
    assert dtypes.pop("labels") == torch.int64
    assert set(dtypes.values()) == {torch.float32}
