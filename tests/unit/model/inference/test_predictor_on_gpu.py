"""Predictors as served on a GPU: staged, compiled, recorded, with kernels chosen by measuring."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch._dynamo.utils import counters

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.images.input_config import InputConfig
from model.inference.batch_limits import fitting_batch_sizes
from model.inference.cuda_graphs import RecordedModule
from model.inference.passes import BEST, EmbeddingNetwork, ExplainingNetwork
from model.inference.predictor import Image, Predictor
from model.lowering.folding import fold
from model.zoo import create_model
from support.filled import filled
from support.grey import as_grey

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
BATCH_SIZES = (1, 2, 4)
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


@pytest.fixture
def device() -> Iterator[torch.device]:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch._dynamo.reset()
    counters.clear()
    yield torch.device("cuda")
    torch._dynamo.reset()


def pictures(count: int, height: int = 224, width: int = 224) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(count)
    return [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def pair(
    network: nn.Module, device: torch.device, dtype: torch.dtype, *, compiler: str | None
) -> tuple[Predictor, Predictor]:
    """Return the predictor on a CPU and the same network's on the GPU."""
    reference = Predictor(copy.deepcopy(network), CPU, torch.float32)
    return reference, Predictor(network, device, dtype, compiler=compiler)


def staged(predictor: Predictor, images: list[NDArray[np.uint8]]) -> list[Image]:
    return [predictor.staging.stage(image) for image in images]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("compiler", [None, "inductor"])
def test_logits_are_the_cpus_in_every_batch(
    device: torch.device, dtype: torch.dtype, compiler: str | None
) -> None:
    network = create_model("demo", weights="demo")
    reference, predictor = pair(network, device, dtype, compiler=compiler)
    assert predictor.kernels == "Triton"
    assert fitting_batch_sizes(predictor, BATCH_SIZES, [(224, 224)]) == BATCH_SIZES
    graphs = counters["stats"]["unique_graphs"]
    for places in (4, 1, 2, 4, 1):
        images = pictures(min(places, 3))
        want = np.stack(reference.classify(images, (places, 224, 224)))  # type: ignore[arg-type]
        got = np.stack(predictor.classify(staged(predictor, images), (places, 224, 224)))  # type: ignore[arg-type]
        assert np.linalg.norm(got - want) < BOUNDS[dtype] * np.linalg.norm(want)
    assert counters["stats"]["unique_graphs"] == graphs
    assert graphs == (2 * 12 if compiler else 0)  # of every kind of region: see test_compiled
    assert not counters["graph_break"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("compiler", [None, "inductor"])
def test_a_grey_networks_logits_are_the_cpus(
    device: torch.device, dtype: torch.dtype, compiler: str | None
) -> None:
    network = fold(as_grey(create_model("demo", weights="demo", fused=False)))
    config = InputConfig(CLASSIFIERS["demo"].geometry, (0.45,), (0.22,))
    reference = Predictor(copy.deepcopy(network), CPU, torch.float32, input_config=config)
    predictor = Predictor(network, device, dtype, input_config=config, compiler=compiler)
    fitting_batch_sizes(predictor, BATCH_SIZES, [(224, 224)])
    images = pictures(2)
    want = np.stack(reference.classify(images, (2, 224, 224)))  # type: ignore[arg-type]
    got = np.stack(predictor.classify(staged(predictor, images), (2, 224, 224)))  # type: ignore[arg-type]
    assert np.linalg.norm(got - want) < BOUNDS[dtype] * np.linalg.norm(want)


@pytest.mark.timeout(600)
def test_listed_shapes_are_replayed_and_others_run_eagerly(device: torch.device) -> None:
    network = create_model("demo", task="segment", weights="demo")
    reference, predictor = pair(network, device, torch.float32, compiler="inductor")
    listed = [(160, 224), (224, 160)]
    fitting_batch_sizes(predictor, (1, 2), listed)
    recorded = predictor.execution.recorded
    assert isinstance(recorded, RecordedModule)
    assert len(recorded.recorded_shapes) == 4
    graphs = counters["stats"]["unique_graphs"]
    for size in (*listed, (160, 256), listed[0]):
        images, sizes = pictures(2, *size), [(300, 400)] * 2
        want = reference.segment(images, (2, *size), sizes)
        got = predictor.segment(staged(predictor, images), (2, *size), sizes)
        for mine, theirs in zip(got, want, strict=True):
            assert mine is not None
            assert (mine == theirs).mean() > 0.999
    assert counters["stats"]["unique_graphs"] == graphs
    assert len(recorded.recorded_shapes) == 4


@pytest.mark.timeout(600)
def test_a_detector_finds_the_same_things(device: torch.device) -> None:
    network = filled(create_model("mask_rcnn_overlock_xt", weights="random"), torch.float32)
    reference, predictor = pair(network, device, torch.float32, compiler="inductor")
    fitting_batch_sizes(predictor, (1, 2), [(256, 320)])
    images, sizes = pictures(2, 250, 320), [(500, 640)] * 2
    want = reference.detect(images, (2, 256, 320), sizes)
    got = predictor.detect(staged(predictor, images), (2, 256, 320), sizes)
    for mine, theirs in zip(got, want, strict=True):
        assert mine is not None
        assert theirs is not None
        assert len(mine.scores) == len(theirs.scores)
        torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.timeout(600)
def test_nothing_grows_over_many_batches_of_mixed_shapes(device: torch.device) -> None:
    network = create_model("demo", task="segment", weights="demo")
    predictor = Predictor(network, device, torch.bfloat16, compiler="inductor")
    shapes = [(160, 224), (224, 160), (160, 256), (192, 160)]
    fitting_batch_sizes(predictor, BATCH_SIZES, shapes[:2])

    def run(batches: int) -> int:
        for index in range(batches):
            size, places = shapes[index % 4], BATCH_SIZES[index % 3]
            predictor.pixel_logits(staged(predictor, pictures(places, *size)), (places, *size))
        return torch.cuda.memory_reserved(device)

    before = run(60)
    assert run(600) == before
    assert predictor.staging.staged_bytes == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("compiler", [None, "inductor"])
def test_embeddings_and_class_maps_are_the_cpus(
    device: torch.device, dtype: torch.dtype, compiler: str | None
) -> None:
    network = create_model("demo", weights="random", num_classes=10)
    assert isinstance(network, ImageClassifier)
    images, shape, wanted = pictures(3), (4, 224, 224), [[BEST], [7], [0]]
    found = []
    for where, kind in ((CPU, torch.float32), (device, dtype)):
        here = copy.deepcopy(network)
        plain = Predictor(here, where, kind, compiler=compiler if where == device else None)
        passes = [
            Predictor(
                each, where, kind, plain.staging, compiler=compiler if where == device else None
            )
            for each in (EmbeddingNetwork(here), ExplainingNetwork(here))
        ]
        for each in (plain, *passes):
            each.prepare(shape)
        for _ in range(2):  # a replay does not disturb the next one
            rows = passes[0].launch(images, shape)()
            explained = passes[1].launch_explanations(images, shape, wanted)()
        found.append((rows, explained))
    (want_rows, want_explained), (rows, explained) = found
    assert [each.class_ids.tolist() for each in explained[1:] if each is not None] == [[7], [0]]
    pairs = list(zip(rows, want_rows, strict=True))
    for got, want in zip(explained[1:], want_explained[1:], strict=True):
        assert got is not None
        assert want is not None
        pairs += [(got.logits, want.logits), (got.focus, want.focus), (got.overview, want.overview)]
    for mine, theirs in pairs:
        assert mine is not None
        assert theirs is not None
        assert np.linalg.norm(mine - theirs) < BOUNDS[dtype] * np.linalg.norm(theirs)
