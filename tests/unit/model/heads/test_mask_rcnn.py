"""The whole detector, with narrow heads and few proposals so that it is quick."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.config import BACKBONES
from model.heads import mask_rcnn as mask_rcnn_module
from model.heads import rpn as rpn_module
from model.heads.detections import Detections
from model.heads.mask_rcnn import MaskRCNN
from model.lowering.folding import fold
from support.filled import filled, random_map

pytestmark = pytest.mark.slow

BOTH_KINDS = pytest.mark.parametrize("cascade", [False, True])
PADDED = (64, 96)
SIZES = ((64, 70), (40, 96))


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn_module, "PYRAMID_CHANNELS", 8)
    monkeypatch.setattr(mask_rcnn_module, "BOX_HEAD_CHANNELS", 16)
    monkeypatch.setattr(rpn_module, "MAXIMUM_PROPOSALS", 100)


@BOTH_KINDS
def test_an_images_detections_do_not_depend_on_its_batch(cascade: bool) -> None:
    network, images = _network(cascade=cascade), _images(SIZES)
    together = network(images, SIZES)
    for index, size in enumerate(SIZES):
        alone = network(images[index : index + 1], [size])[0]
        assert len(alone.boxes) > 0
        _assert_same(together[index], alone)


@BOTH_KINDS
def test_boxes_end_at_their_own_images_border(cascade: bool) -> None:
    for detections, (height, width) in zip(
        _network(cascade=cascade)(_images(SIZES), SIZES), SIZES, strict=True
    ):
        assert detections.boxes.min() >= 0
        assert detections.boxes[:, [0, 2]].max().item() == width
        assert detections.boxes[:, [1, 3]].max().item() == height


def test_boxes_are_in_the_original_images_pixels() -> None:
    network, images = _network(cascade=False), _images(SIZES[:1])
    plain = network(images, SIZES[:1])[0]
    original = network(images, SIZES[:1], [(32, 210)])[0]
    scale = torch.tensor([70 / 210, 64 / 32] * 2)  # width, height
    assert_close(original.boxes, plain.boxes / scale, rtol=0, atol=1e-9)
    assert_close(original.masks, plain.masks, rtol=0, atol=1e-9)


@BOTH_KINDS
def test_an_image_smaller_than_a_stride_is_detected_in(cascade: bool) -> None:
    size = (5, 7)
    (detections,) = _network(cascade=cascade)(_images([size], padded=(32, 32)), [size])
    assert len(detections.boxes) > 0
    assert detections.boxes[:, [0, 2]].max() <= 7
    assert detections.boxes[:, [1, 3]].max() <= 5


@BOTH_KINDS
def test_neither_folding_nor_channels_last_changes_a_detection(cascade: bool) -> None:
    network, images = _network(cascade=cascade), _images(SIZES[:1])
    (want,) = network(images, SIZES[:1])
    folded = fold(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    (got,) = folded(images.contiguous(memory_format=torch.channels_last), SIZES[:1])
    _assert_same(got, want)


@BOTH_KINDS
def test_a_bfloat16_network_answers_in_float32(cascade: bool) -> None:
    network = fold(_network(cascade=cascade)).bfloat16()
    for detections in network(_images(SIZES).bfloat16(), SIZES):
        assert len(detections.boxes) > 0
        for result in (detections.boxes, detections.scores, detections.masks):
            assert result.dtype == torch.float32
            assert result.isfinite().all()


def test_every_image_needs_its_sizes() -> None:
    network, size = _network(cascade=False), (32, 32)
    images = _images([size] * 2, padded=size)
    for sizes, originals in (([size], None), ([size] * 3, None), ([size] * 2, [size])):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            network(images, sizes, originals)


@BOTH_KINDS
def test_a_networks_nan_shows_in_its_detections(cascade: bool) -> None:
    network = _network(cascade=cascade)
    images = torch.full((1, 3, 32, 32), torch.nan, dtype=torch.float64)
    (detections,) = network(images, [(32, 32)])
    assert len(detections.scores) > 0
    assert detections.scores.isnan().all()


def _network(*, cascade: bool) -> MaskRCNN:
    return filled(MaskRCNN(BACKBONES["nano"], 3, cascade=cascade))


def _images(sizes: Sequence[tuple[int, int]], padded: tuple[int, int] = PADDED) -> Tensor:
    """Noise of each size, zeros right of and below it."""
    images = torch.zeros(len(sizes), 3, *padded, dtype=torch.float64)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = random_map(3, height, width)
    return images


def _assert_same(got: Detections, want: Detections) -> None:
    assert torch.equal(got.labels, want.labels)
    for name in ("boxes", "scores", "masks"):
        # float64 through the whole network
        assert_close(getattr(got, name), getattr(want, name), rtol=0, atol=1e-7)
