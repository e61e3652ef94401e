"""Embeddings and class maps by a predictor: mixed, padded and damaged batches, other forms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch._dynamo.utils import counters
from torch.testing import assert_close

from model.config import BACKBONES
from model.demo.loop import network_input
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.inference.compiled import CompiledModule
from model.inference.passes import BEST, EmbeddingNetwork, ExplainingNetwork, Explanation
from model.inference.predictor import Predictor
from model.inference.static_module import StaticModule
from model.lowering.folding import fold
from support.filled import filled

CPU = torch.device("cpu")
SHAPE = (4, 64, 96)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [
        np.random.default_rng(seed).integers(0, 256, (*SHAPE[1:], 3), np.uint8)
        for seed in range(count)
    ]


def classifier(*, overview_head: bool = True) -> ImageClassifier:
    network = ImageClassifier(BACKBONES["nano"], 20, overview_head=overview_head)
    return fold(filled(network, torch.float32))


def explain(
    network: ImageClassifier, images: list[NDArray[np.uint8]], wanted: list[list[int]]
) -> list[Explanation | None]:
    predictor = Predictor(ExplainingNetwork(network), CPU, torch.float32)
    return predictor.launch_explanations(images, SHAPE, wanted)()


def test_a_pass_embeds_all_layers_whatever_the_batch() -> None:
    network, images = classifier(), pictures(3)
    embedder = EmbeddingNetwork(network)
    found = Predictor(embedder, CPU, torch.float32).launch(images, SHAPE)()
    batch = network_input(np.stack(images))
    assert list(embedder.layers) == list(network.layer_dimensions)
    for layer, columns in embedder.layers.items():
        want = network.embed(batch, layer)
        for row, want_row in zip(found, want, strict=True):
            assert row is not None
            assert len(row) == sum(network.layer_dimensions.values())
            assert_close(torch.from_numpy(row[columns]), want_row, rtol=1e-4, atol=1e-4)


def test_a_detector_can_be_embedded() -> None:
    network = fold(filled(MaskRCNN(BACKBONES["nano"], 3, cascade=False), torch.float32))
    predictor = Predictor(EmbeddingNetwork(network), CPU, torch.float32)
    (found,) = predictor.launch(pictures(1), (1, 64, 96))()
    assert found is not None
    assert len(found) == sum(network.layer_dimensions.values())


def test_classification_embedding_and_explanation_share_a_lowered_network() -> None:
    network, images = classifier(), pictures(2)
    plain = Predictor(network, CPU, torch.float32)
    want = [logits for logits in plain.classify(images, SHAPE) if logits is not None]
    explained = explain(network, images, [[BEST], [BEST]])
    embedder = EmbeddingNetwork(network)
    embedded = Predictor(embedder, CPU, torch.float32).launch(images, SHAPE)()
    for logits, explanation, row in zip(want, explained, embedded, strict=True):
        assert explanation is not None
        assert row is not None
        np.testing.assert_array_equal(explanation.logits, logits)
        head = torch.from_numpy(row[embedder.layers["head"]])
        by_head = network.head.classify(head[None, :, None, None]).flatten()
        assert_close(by_head, torch.from_numpy(logits), rtol=1e-4, atol=1e-4)


def test_each_image_is_explained_by_its_ids_or_its_best_classes() -> None:
    network, images = classifier(), pictures(3)
    found = explain(network, images, [[BEST, BEST], [7, 0], [BEST, 3]])
    every = network.class_maps(network_input(np.stack(images)))
    assert every.overview is not None
    for index, each in enumerate(found):
        assert each is not None
        best = (-each.logits).argsort()
        want = [best[:2].tolist(), [7, 0], [best[0], 3]][index]
        assert each.class_ids.tolist() == want
        assert each.overview is not None
        for got, maps in ((each.focus, every.focus), (each.overview, every.overview)):
            assert_close(torch.from_numpy(got), maps[index, want], rtol=1e-4, atol=1e-4)
        means = each.focus.mean(axis=(1, 2))
        np.testing.assert_allclose(means, each.logits[want], rtol=1e-4, atol=1e-4)


def test_without_an_overview_head_an_explanation_has_no_overview() -> None:
    (found,) = explain(classifier(overview_head=False), pictures(1), [[BEST]])
    assert found is not None
    assert found.overview is None


@pytest.mark.parametrize("part", ["head", "overview_head"])
def test_an_image_whose_output_is_not_finite_has_no_explanation(part: str) -> None:
    class Damaged(nn.Module):
        """Damages the maps of the second image."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.inner(features).clone()
            output[1, 0, 0, 0] = torch.nan
            return output

    network = classifier()
    name = "project" if part == "head" else "norm"
    owner = network.get_submodule(part)
    setattr(owner, name, Damaged(owner.get_submodule(name)))
    found = explain(network, pictures(3), [[BEST]] * 3)
    assert [each is None for each in found] == [False, True, False]


@pytest.fixture
def _forgetful_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("_forgetful_compiler")
@torch.inference_mode()
def test_passes_share_the_compiled_blocks() -> None:
    network = classifier()
    batch = torch.from_numpy(np.stack(pictures(2))), torch.tensor([SHAPE[1:]] * 2)
    graphs = []
    modules = [
        StaticModule(each, CPU, torch.float32)
        for each in (network, ExplainingNetwork(network), EmbeddingNetwork(network))
    ]
    want = [module(*batch) for module in modules]
    compiled = [CompiledModule(module, backend="eager") for module in modules]
    for each, outputs in zip(compiled, want, strict=True):
        each.prepare(*batch)
        graphs.append(counters["stats"]["unique_graphs"])
        for got, output in zip(each(*batch), outputs, strict=True):
            assert_close(got, output)
    # The others add the check of their own outputs alone.
    assert graphs[2] - graphs[0] <= 2
    assert not counters["graph_break"]
