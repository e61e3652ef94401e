"""Embeddings: the same of every layer, network, form and batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.backbone.overlock import StageMaps
from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.heads.embedding import Embeddable
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.kernels.gpu.autotune import Autotuner
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu
from support.filled import filled, random_map

NANO = BACKBONES["nano"]
NETWORKS: dict[str, Callable[[], Embeddable]] = {
    "classifier": lambda: ImageClassifier(NANO, 3),
    "segmenter": lambda: UPerNet(NANO, 8, 3),
    "detector": lambda: MaskRCNN(NANO, 3, cascade=False),
}
BACKBONE_LAYERS = {
    "backbone": 96 + 24,
    "stage1": 16,
    "stage2": 32,
    "stage3": 64,
    "overview": 96,
    "focus3": 64 + 24,
    "focus4": 96 + 24,
}
ALL_LAYERS = {"head": NANO.head_channels} | BACKBONE_LAYERS


@pytest.mark.parametrize(
    ("kind", "layers"),
    [("classifier", ALL_LAYERS), ("segmenter", BACKBONE_LAYERS), ("detector", BACKBONE_LAYERS)],
)
def test_every_layer_has_its_length(kind: str, layers: dict[str, int]) -> None:
    network = filled(NETWORKS[kind](), torch.float32)
    assert list(network.layer_dimensions.items()) == list(layers.items())
    images = random_map(2, 3, 64, 96, dtype=torch.float32)
    for layer, length in layers.items():
        embedding = network.embed(images, layer)
        assert embedding.shape == (2, length)
        assert embedding.dtype == torch.float32
    assert_close(network.embed(images), network.embed(images, next(iter(layers))))


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_are_means_of_the_stages_outputs(kind: str) -> None:
    network = filled(NETWORKS[kind]())
    seen: dict[str, Tensor] = {}
    for name in StageMaps._fields:
        stage = network.backbone.get_submodule(name)
        part = stage[-1] if name.startswith("focus") else stage  # type: ignore[index]
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    means = network.layer_means(random_map(1, 3, 70, 45))
    assert list(seen) == list(StageMaps._fields)
    for name, features in seen.items():
        assert_close(means[name], features.mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_layer_backbone_is_the_map_that_a_head_reads_last(kind: str) -> None:
    network, images = filled(NETWORKS[kind]()), random_map(1, 3, 64, 64)
    *_, last = network.backbone.dense_features(images)
    means = network.layer_means(images)
    assert_close(means["backbone"], last.mean(dim=(2, 3)))
    assert torch.equal(means["backbone"], means["focus4"]) == (kind == "classifier")


def lowered_for_cpu(network: Embeddable) -> Embeddable:
    return lower_for_cpu(network, torch.float32)


def lowered_for_gpu(network: Embeddable) -> Embeddable:
    lower_for_gpu(network, Autotuner())
    return network


@pytest.mark.parametrize(
    "lowered",
    [
        lambda network: network,
        lowered_for_gpu,
        pytest.param(
            lowered_for_cpu,
            marks=pytest.mark.skipif(
                lowering_unsupported_reason(torch.float32) is not None,
                reason=str(lowering_unsupported_reason(torch.float32)),
            ),
        ),
    ],
    ids=["folded", "for a GPU", "for a CPU"],
)
@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_every_form_gives_the_same(kind: str, lowered: Callable[[Embeddable], Embeddable]) -> None:
    trained = filled(NETWORKS[kind](), torch.float32)
    images = random_map(2, 3, 64, 96, dtype=torch.float32)
    images = images.contiguous(memory_format=torch.channels_last)
    want = trained.layer_means(images)
    got = lowered(fold(copy.deepcopy(trained))).layer_means(images)
    assert list(got) == list(want)
    for layer, mean in got.items():
        assert_close(mean, want[layer], rtol=0, atol=2e-5 * want[layer].abs().max().item())


def test_an_embedding_does_not_depend_on_its_neighbours() -> None:
    network, images = filled(NETWORKS["classifier"]()), random_map(3, 3, 64, 64)
    together = network.embed(images)
    for index in range(3):
        assert_close(network.embed(images[index : index + 1]), together[index : index + 1])


def test_a_layer_that_is_not_there_is_named_with_those_that_are() -> None:
    network = filled(NETWORKS["segmenter"](), torch.float32)
    with pytest.raises(ValueError, match="no layer 'head'; there are backbone, stage1, stage2"):
        network.embed(random_map(1, 3, 64, 64, dtype=torch.float32), "head")


def test_an_embedding_can_be_trained_on() -> None:
    network = NETWORKS["classifier"]().train()
    network.embed(random_map(2, 3, 64, 64, dtype=torch.float32), "head").square().sum().backward()
    without = [name for name, each in network.named_parameters() if each.grad is None]
    assert without == ["head.classify.weight", "head.classify.bias"]
