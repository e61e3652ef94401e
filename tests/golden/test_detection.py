"""The detectors find what the authors' detectors find.

``det.npz`` and ``e2e_det.npz`` hold outputs of the authors' public network under mmdetection 2.28
in float32 on a CPU, with the weights of ``golden.fill``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from model.checkpoints.checkpoint import renamed
from model.config import DEFAULT_NUM_CLASSES, DETECTORS, Task
from model.heads.boxes import pairwise_iou
from model.heads.detections import Detections
from model.heads.mask_rcnn import MaskRCNN
from model.heads.rpn import Candidates, Proposals
from model.images.masks import paste_mask
from model.images.preprocess import detection_input, padded_size
from model.inference.predictor import Predictor
from model.lowering.cpu import lower_for_cpu
from model.lowering.folding import fold
from support.checkpoints import official_shapes, official_state
from support.fill import image, model_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent
REFERENCE = dict(np.load(FOLDER / "det.npz"))
PHOTO_RESULTS = dict(np.load(FOLDER / "e2e_det.npz"))
PHOTO_KEYS = [key.removesuffix("|dets") for key in PHOTO_RESULTS if key.endswith("|dets")]
KINDS = ("mask_rcnn", "cascade_mask_rcnn")
FORMS = ("trained", "folded", "native")
DETECTING_FORMS = FORMS[1:]
"""Folding leaves the heads behind the proposals as they were trained."""

HEIGHT, WIDTH = SIZE = (160, 224)
TOLERANCE = 1e-4  # of the largest magnitude: float32, summed in another order than the authors'
SWAPPED = 5e-6  # two scores' errors in float32


@dataclass(frozen=True)
class Maps:
    """A network's outputs for the reference's image, before its instances are detected."""

    pyramid: list[Tensor]
    candidates: Candidates
    proposals: Proposals


@dataclass(frozen=True)
class Detector:
    """A network in its folded form, and its outputs in each of the forms."""

    folded: MaskRCNN
    maps: dict[str, Maps]
    detections: dict[str, Detections]


DetectorOf = Callable[[str], Detector]


@pytest.fixture(scope="module")
def detector_of() -> DetectorOf:
    """Return the detector of a kind, over XT, with the reference's weights."""

    @cache
    def made(kind: str) -> Detector:
        name = f"{kind}_overlock_xt"
        network = _network(name).eval()
        network.load_state_dict(renamed(official_state(name)), strict=False)
        pixels = image(f"det-{kind}-xt-160x224", HEIGHT, WIDTH)
        images = torch.from_numpy(model_input([pixels]))
        maps = {"trained": _maps(network, images), "folded": _maps(fold(network), images)}
        native = lower_for_cpu(copy.deepcopy(network), torch.float32)
        maps["native"] = _maps(native, images)
        detections = {
            form: _detections(each, maps[form])
            for form, each in zip(DETECTING_FORMS, (network, native), strict=True)
        }
        return Detector(network, maps, detections)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_pyramid_is_the_authors(detector_of: DetectorOf, kind: str, form: str) -> None:
    for index, level in enumerate(detector_of(kind).maps[form].pyramid):
        want = _reference(kind, f"fpn{index}")
        # Of the two largest levels the reference keeps every eighth channel.
        got = level[:, ::8] if index < 2 else level
        assert_close(got, want, rtol=0, atol=TOLERANCE * want.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_the_authors(detector_of: DetectorOf, kind: str, form: str) -> None:
    proposals, want = detector_of(kind).maps[form].proposals, _reference(kind, "proposals")
    assert proposals.boxes.shape == want[:, :4].shape
    same = torch.arange(len(want))
    (close,) = torch.where(want[:-1, 4] - want[1:, 4] < SWAPPED)
    for first in close.tolist():  # rounding may swap the proposals
        if (proposals.boxes[first] - want[same[first], :4]).abs().max() > TOLERANCE * WIDTH:
            same[[first, first + 1]] = same[[first + 1, first]]
    # Pixels: the tolerance of the features, on an image of 224.
    assert_close(proposals.boxes, want[same, :4], rtol=0, atol=TOLERANCE * WIDTH)
    assert_close(proposals.scores, want[same, 4], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("form", DETECTING_FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_the_authors(detector_of: DetectorOf, kind: str, form: str) -> None:
    matched = _matches(detector_of(kind).detections[form], _reference(kind, "dets"))
    # A score or an overlap at a threshold may round to its other side, and move its neighbours.
    assert len(matched) >= 97


@pytest.mark.parametrize("form", DETECTING_FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_the_authors(detector_of: DetectorOf, kind: str, form: str) -> None:
    detections, want = detector_of(kind).detections[form], _reference(kind, "dets")
    masks = _unpacked(REFERENCE[f"{kind}-xt-160x224-masks"], (len(want), HEIGHT, WIDTH))
    assert _mean_mask_iou(detections, want, masks) > 0.97  # a probability of 0.5 may round down


@pytest.mark.timeout(300)  # an 800x1088 input
@pytest.mark.parametrize("key", PHOTO_KEYS)
def test_a_photo_gets_the_authors_detections(
    photos_dir: Path, detector_of: DetectorOf, key: str
) -> None:
    kind, variant, photo_name = key.split("|")
    geometry = DETECTORS[f"{kind}_overlock_{variant}"].geometry
    with Image.open(photos_dir / photo_name) as photo:
        pixels = detection_input(photo.convert("RGB"), geometry)
        original_size = (photo.height, photo.width)
    height, width = pixels.shape[:2]
    shape = padded_size(height, width, geometry.multiple)
    predictor = Predictor(detector_of(kind).folded, torch.device("cpu"), torch.float32)
    (detections,) = predictor.detect([pixels], (1, *shape), [original_size])
    assert detections is not None
    want = torch.from_numpy(PHOTO_RESULTS[f"{key}|dets"])
    masks = _unpacked(PHOTO_RESULTS[f"{key}|masks"], tuple(PHOTO_RESULTS[f"{key}|shape"]))
    assert len(_matches(detections, want)) >= 97
    assert _mean_mask_iou(detections, want, masks) > 0.97


@pytest.mark.parametrize(
    "name",
    [
        "mask_rcnn_overlock_xt",
        "mask_rcnn_overlock_t",
        "cascade_mask_rcnn_overlock_xt",
        "cascade_mask_rcnn_overlock_t",
        "cascade_mask_rcnn_overlock_s",
    ],
)
def test_official_keys_are_exactly_the_networks(name: str) -> None:
    with torch.device("meta"):
        official = {key: torch.empty(shape) for key, shape in official_shapes(name).items()}
        network = _network(name)
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in renamed(official).items()} == ours


def _network(name: str) -> MaskRCNN:
    config = DETECTORS[name]
    return MaskRCNN(config.backbone, DEFAULT_NUM_CLASSES[Task.DETECT], cascade=config.cascade)


@torch.no_grad()
def _maps(network: MaskRCNN, images: Tensor) -> Maps:
    pyramid, candidates = network.maps(images)
    (proposals,) = network.rpn.proposals(candidates, [SIZE])
    return Maps(pyramid, candidates, proposals)


@torch.no_grad()
def _detections(network: MaskRCNN, maps: Maps) -> Detections:
    (detections,) = network.detections(maps.pyramid, maps.candidates, [SIZE])
    return detections


def _reference(kind: str, part: str) -> Tensor:
    return torch.from_numpy(REFERENCE[f"{kind}-xt-160x224-{part}"])


def _unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(np.bool_)


def _mean_mask_iou(got: Detections, want: Tensor, masks: NDArray[np.bool_]) -> float:
    """Paste the masks of matched detections and compare them with ``masks``, (N, H, W)."""
    overlaps = []
    for got_index, want_index in _matches(got, want):
        other = masks[want_index]
        pasted = paste_mask(
            got.masks[got_index].numpy(), got.boxes[got_index].numpy(), *other.shape
        )
        mask = np.zeros_like(other)
        height, width = pasted.pixels.shape
        mask[pasted.top : pasted.top + height, pasted.left : pasted.left + width] = pasted.pixels
        union = (mask | other).sum()
        overlaps.append(float((mask & other).sum() / union) if union else 1.0)
    return sum(overlaps) / len(overlaps)


def _matches(got: Detections, want: Tensor) -> list[tuple[int, int]]:
    """Pair detections, each once: same class, IoU above 0.9, scores within 0.02."""
    alike = pairwise_iou(got.boxes, want[:, :4]) > 0.9
    alike &= got.labels.unsqueeze(1) == want[:, 5].long()
    alike &= (got.scores.unsqueeze(1) - want[:, 4]).abs() < 0.02
    pairs: list[tuple[int, int]] = []
    for index, candidates in enumerate(alike):
        candidates[[other for _, other in pairs]] = False
        if candidates.any():
            pairs.append((index, int(candidates.nonzero()[0])))
    return pairs
