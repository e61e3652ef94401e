"""Class maps: exact, of the classes that are asked for, and no more."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from model.config import BACKBONES
from model.heads.class_maps import position_logits
from model.heads.classifier import ImageClassifier
from support.filled import filled, random_map

CLASSES = 1000


@pytest.fixture(scope="module")
def network() -> ImageClassifier:
    return filled(ImageClassifier(BACKBONES["nano"], CLASSES, overview_head=True))


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (97, 65)])
def test_the_mean_of_a_map_is_the_logit(network: ImageClassifier, size: tuple[int, int]) -> None:
    images = random_map(2, 3, *size)
    maps = network.class_maps(images)
    height, width = (-(-side // 32) for side in size)
    assert maps.overview is not None
    assert network.overview_head is not None
    assert maps.focus.shape == maps.overview.shape == (2, CLASSES, height, width)
    assert_close(maps.focus.mean(dim=(2, 3)), network(images))
    overview = network.backbone.stage_maps(images).overview
    assert_close(maps.overview.mean(dim=(2, 3)), network.overview_head(overview))


def test_each_image_gets_the_classes_of_its_row(network: ImageClassifier) -> None:
    images, class_ids = random_map(2, 3, 64, 96), torch.tensor([[3, 999, 3], [0, 7, 5]])
    every, chosen = network.class_maps(images), network.class_maps(images, class_ids)
    assert every.overview is not None
    assert chosen.overview is not None
    for index, ids in enumerate(class_ids):
        assert_close(chosen.focus[index], every.focus[index, ids])
        assert_close(chosen.overview[index], every.overview[index, ids])


def test_one_class_costs_a_thousandth_of_all(network: ImageClassifier) -> None:
    features = random_map(2, BACKBONES["nano"].head_channels, 7, 7)
    flops = []
    for class_ids in (torch.tensor([[5], [6]]), None):
        with FlopCounterMode(display=False) as counter:
            position_logits(features, network.head.classify, class_ids)
        flops.append(counter.get_total_flops())
    assert flops[0] * CLASSES == flops[1] > 0


def test_the_logits_beside_the_maps_are_the_networks_to_the_bit(network: ImageClassifier) -> None:
    images = random_map(2, 3, 64, 64)
    assert torch.equal(network.explain(images).logits, network(images))


def test_without_an_overview_head_there_is_no_overview_map() -> None:
    network = filled(ImageClassifier(BACKBONES["nano"], 4))
    maps = network.class_maps(random_map(1, 3, 64, 64))
    assert maps.overview is None
    assert maps.focus.shape == (1, 4, 2, 2)


def test_maps_of_bfloat16_features_are_not_rounded() -> None:
    network = filled(ImageClassifier(BACKBONES["nano"], 4), torch.bfloat16)
    focus, _ = network.class_maps(random_map(1, 3, 64, 64, dtype=torch.bfloat16))
    assert focus.dtype == torch.float32
    assert not torch.equal(focus, focus.bfloat16().float())


@pytest.mark.parametrize(
    ("class_ids", "message"),
    [
        (torch.tensor([[0, CLASSES]]), "ids from 0 to 1000; the network's classes are 0 to 999"),
        (torch.tensor([[-1]]), "ids from -1 to -1"),
        (torch.tensor([[1], [2]]), r"int64 of shape \(2, 1\), not int64 of \(1, k\): a row for"),
        (torch.tensor([1]), r"of shape \(1,\)"),
        (torch.tensor([[1.0]]), "float32"),
    ],
)
def test_ids_that_are_no_classes_are_refused(
    network: ImageClassifier, class_ids: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network.class_maps(random_map(1, 3, 64, 64), class_ids)
