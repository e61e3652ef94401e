"""A network's tasks by one object: whatever the images of a batch ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import BACKBONES, Task
from model.heads.classifier import ImageClassifier
from model.heads.embedding import Embeddable
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.images.input_config import input_config
from model.images.stitching import PassLogits, stitched_label_map
from model.images.tiles import TileGrid
from model.inference.passes import BEST
from model.inference.staging import staging_for
from model.inference.task_predictors import TaskPredictors
from model.kernels.gpu.autotune import Autotuner
from model.lowering.folding import fold
from model.zoo import load_model
from support.filled import filled

CPU = torch.device("cpu")
SHAPE = (4, 64, 96)


@dataclass(frozen=True)
class Asked:
    image: NDArray[np.uint8]
    original_size: tuple[int, int] = (64, 96)
    layer: str | None = None
    class_ids: tuple[int, ...] = ()
    logits: bool = False


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE[1:], 3), np.uint8)


def predictors(network: Embeddable, task: Task) -> TaskPredictors:
    geometry = load_model("demo", weights="random").config.geometry
    return TaskPredictors(
        fold(filled(network, torch.float32)),
        task,
        CPU,
        torch.float32,
        staging_for(CPU),
        None,
        input_config=input_config(geometry, 3, file=None, checkpoint=None),
        compiler=None,
        autotuner=Autotuner(),
    )


@pytest.fixture(scope="module")
def classifier() -> TaskPredictors:
    return predictors(ImageClassifier(BACKBONES["nano"], 20, overview_head=True), Task.CLASSIFY)


def test_only_a_classifier_is_explained() -> None:
    dense = UPerNet(BACKBONES["nano"], 64, 5)
    detector = MaskRCNN(BACKBONES["nano"], 3, cascade=False)
    assert predictors(dense, Task.SEGMENT).tasks == (Task.SEGMENT, Task.EMBED)
    assert predictors(detector, Task.DETECT).tasks == (Task.DETECT, Task.EMBED)


def test_a_classifier_has_all_three(classifier: TaskPredictors) -> None:
    assert classifier.tasks == (Task.CLASSIFY, Task.EMBED, Task.EXPLAIN)
    assert classifier.predictors[0] is classifier.own


def test_each_image_of_a_batch_gets_its_own_layer(classifier: TaskPredictors) -> None:
    layers = (None, "head", "stage1")
    asked = [Asked(picture(1), layer=layer) for layer in layers]
    default, head, stage1 = classifier.launch(Task.EMBED, asked, SHAPE)()
    assert default is not None
    assert head is not None
    assert stage1 is not None
    np.testing.assert_array_equal(default[0], head[0])
    assert (len(head[0]), len(stage1[0])) == (256, 16)
    assert head[0].flags.c_contiguous


def test_a_batch_has_label_maps_and_logits() -> None:
    segmenter = predictors(UPerNet(BACKBONES["nano"], 64, 5), Task.SEGMENT)
    asked = [Asked(picture(1)), Asked(picture(1), logits=True), Asked(picture(2), logits=True)]
    labels, logits, other = segmenter.launch(Task.SEGMENT, asked, SHAPE)()
    assert labels is not None
    assert logits is not None
    assert other is not None
    assert labels[0].dtype == np.uint8
    assert labels[0].shape == (64, 96)
    assert logits[0].dtype == np.float16
    assert logits[0].shape == (5, 16, 24)
    assert (logits[0].max(axis=0) == 0).all()
    assert logits[0].flags.c_contiguous
    assert (logits[0] != other[0]).any()
    grid = TileGrid(64, 96, 256, 0.2)
    stitched = stitched_label_map(grid, [PassLogits(logits[0], (64, 96))])
    assert (stitched != labels[0]).mean() <= 2e-3  # float16 keeps 11 bits of each difference


def test_each_image_of_a_batch_gets_its_own_classes(classifier: TaskPredictors) -> None:
    wanted: list[tuple[int, ...]] = [(BEST,), (7, 3, 0), (BEST, BEST)]
    asked = [Asked(picture(seed), class_ids=ids) for seed, ids in enumerate(wanted)]
    found = classifier.launch(Task.EXPLAIN, asked, SHAPE)()
    for arrays, ids in zip(found, wanted, strict=True):
        assert arrays is not None
        logits, class_ids, focus, overview = arrays
        assert focus.shape == overview.shape == (len(ids), 2, 3)
        assert class_ids.shape == (len(ids),)
        np.testing.assert_allclose(focus.mean((1, 2)), logits[class_ids], atol=1e-4)
    first, chosen, ranked = (arrays for arrays in found if arrays is not None)
    assert first[1][0] == first[0].argmax()
    assert chosen[1].tolist() == [7, 3, 0]
    assert ranked[1].tolist() == np.argsort(-ranked[0])[:2].tolist()


def test_what_is_not_finite_has_no_result(classifier: TaskPredictors) -> None:
    buffers = classifier.own.network.named_buffers()
    weight = next(each for name, each in buffers if name.startswith("head."))
    kept = weight.clone()
    weight.fill_(torch.nan)
    try:
        for task, asked in (
            (Task.CLASSIFY, Asked(picture(1))),
            (Task.EXPLAIN, Asked(picture(1), class_ids=(BEST,))),
        ):
            assert classifier.launch(task, [asked], (1, 64, 96))() == (None,)
    finally:
        weight.copy_(kept)


def test_maps_that_overflow_are_no_explanation(classifier: TaskPredictors) -> None:
    network = classifier.own.network
    weight = network.get_submodule("overview_head.classify").get_buffer("weight")
    kept = weight.clone()
    weight[3].fill_(torch.finfo(torch.float32).max)
    try:
        asked = [Asked(picture(1), class_ids=ids) for ids in ((3, 4), (4,))]
        lost, found = classifier.launch(Task.EXPLAIN, asked, (2, 64, 96))()
    finally:
        weight.copy_(kept)
    assert lost is None
    assert found is not None
