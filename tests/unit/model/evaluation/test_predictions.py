from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from torch import Tensor, nn

from model.config import IMAGE_MEAN, IMAGE_STD
from model.evaluation.coco import CocoImage
from model.evaluation.images import EvaluationError
from model.evaluation.predictions import coco_results, label_map_of, logits_of
from model.heads.detections import Detections
from model.heads.rpn import Candidates
from model.inference.predictor import Predictor
from model.lowering.cpu import lowering_unsupported_reason

CPU = torch.device("cpu")
NO_BFLOAT16 = lowering_unsupported_reason(torch.bfloat16)


class MeanColor(nn.Module):
    """Takes the mean of each channel for the logits of three classes."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class BestChannel(nn.Module):
    """Takes the channels for the logits of three classes, at a quarter of the size."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 4)


class Finder(nn.Module):
    """Finds the given things on every image, and remembers what it was asked."""

    def __init__(self, detections: Detections) -> None:
        super().__init__()
        self.found = detections

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        self.images = images
        return [images], Candidates(torch.zeros(1, 1), torch.zeros(1, 1, 4), torch.zeros(1))

    def detections(
        self,
        _pyramid: list[Tensor],
        _candidates: Candidates,
        sizes: list[tuple[int, int]],
        original_sizes: list[tuple[int, int]],
    ) -> list[Detections]:
        self.sizes, self.original_sizes = sizes, original_sizes
        return [self.found]


def predictor(network: nn.Module, dtype: torch.dtype = torch.float32) -> Predictor:
    return Predictor(network, CPU, dtype)


def test_pixels_are_normalised() -> None:
    image = np.full((8, 8, 3), (10, 100, 200), np.uint8)
    (logits,) = logits_of(predictor(MeanColor()), [image])
    want = (np.array([10, 100, 200]) / 255 - IMAGE_MEAN) / IMAGE_STD
    np.testing.assert_allclose(logits, want, rtol=1e-5)


def test_each_image_of_a_batch_has_its_logits() -> None:
    images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 255)]
    logits = logits_of(predictor(MeanColor()), images)
    assert (logits[0] < 0).all()
    assert (logits[1] > 0).all()


def test_logits_that_are_not_finite_are_refused() -> None:
    linear = nn.Linear(3, 2)
    nn.init.constant_(linear.bias, torch.nan)
    network = nn.Sequential(MeanColor(), linear)
    with pytest.raises(EvaluationError, match="not finite; try --dtype float32"):
        logits_of(predictor(network), [np.zeros((8, 8, 3), np.uint8)])


@pytest.mark.skipif(NO_BFLOAT16 is not None, reason=str(NO_BFLOAT16))
def test_bfloat16_reaches_weights_and_images() -> None:
    network = nn.Sequential(MeanColor(), nn.Linear(3, 2))
    logits = logits_of(predictor(network, torch.bfloat16), [np.zeros((8, 8, 3), np.uint8)])
    assert network[1].weight.dtype is torch.bfloat16
    assert logits.dtype == np.float32


def test_a_label_map_has_the_annotations_size() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :32, 2] = image[:, 32:, 1] = 255
    label_map = label_map_of(predictor(BestChannel()), image, (48, 96))
    assert label_map.shape == (48, 96)
    assert (label_map[:, :44] == 2).all()
    assert (label_map[:, 52:] == 1).all()


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        boxes=torch.tensor(boxes),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels),
        masks=torch.ones(len(boxes), 28, 28),
    )


def test_a_detectors_image_is_padded_with_zeros_after_normalising() -> None:
    finder = Finder(found([[0, 0, 1, 1]], [0.5], [0]))
    image = CocoImage(np.zeros((20, 40, 3), np.uint8), image_id=5, size=(10, 20))
    coco_results(predictor(finder), image, 32, (1,))
    assert finder.images.shape == (1, 3, 32, 64)
    assert (finder.images[:, :, 20:] == 0).all()
    assert (finder.images[:, :, :, 40:] == 0).all()
    assert (finder.images[:, :, :20, :40] < 0).all()
    assert (finder.sizes, finder.original_sizes) == ([(20, 40)], [(10, 20)])


def test_detections_become_coco_results_of_the_original_image() -> None:
    finder = Finder(found([[2, 1, 8, 5], [0, 0, 3, 3]], [0.75, 0.5], [1, 0]))
    image = CocoImage(np.zeros((20, 40, 3), np.uint8), image_id=5, size=(10, 20))
    first, second = coco_results(predictor(finder), image, 32, (18, 44))
    assert (first["image_id"], first["category_id"], first["score"]) == (5, 44, 0.75)
    assert (first["bbox"], second["bbox"]) == ([2, 1, 6, 4], [0, 0, 3, 3])
    mask = first["segmentation"]
    assert mask["size"] == [10, 20]
    assert rle.toBbox(mask).tolist() == [2, 1, 6, 4]
    assert rle.area(mask) == 6 * 4


def test_classes_without_a_category_are_dropped() -> None:
    finder = Finder(found([[2, 1, 8, 5], [0, 0, 3, 3]], [0.75, 0.5], [1, 0]))
    image = CocoImage(np.zeros((20, 40, 3), np.uint8), image_id=5, size=(10, 20))
    (only,) = coco_results(predictor(finder), image, 32, (18, None))
    assert only["category_id"] == 18
