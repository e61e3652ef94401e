from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from model.kernels.gpu.failures import DeviceLostError
from service.api.errors import InvalidParameterError
from service.api.queries import ClassifyQuery, EmbedQuery, ExplainQuery, SegmentQuery
from service.api.schemas import EmbedResponse, ExplainResponse, SegmentResponse
from service.commands.predict import network
from service.commands.predict.local import LocalPredictor
from service.commands.predict.outcome import Failure, Outcome, PredictAnswer, PredictRequest, Query
from service.commands.predict.sources import Source
from service.engine import runner
from service.engine.batches import BatchResult, DeviceFailedError
from service.settings import load_settings, specs_of
from support.fake_cuda import FakeDevice, device

__all__ = ["device"]

POISON = 250
"""Grey level of an image that fails its batch."""


def source(name: str, grey: int = 90, size: tuple[int, int] = (64, 48)) -> Source:
    file = BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, "PNG")
    return Source(name, PurePath(name), file.getvalue())


def here(query: Query, *, batch_size: int = 4, saves: bool = False) -> LocalPredictor:
    off = "classify" if isinstance(query, SegmentQuery) else "segment"
    settings = load_settings({f"{off}_model": "off", "dtype": "float32", "devices": "cpu"})
    (spec,) = specs_of(settings)
    return LocalPredictor(settings, spec, PredictRequest(query, saves=saves), batch_size)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that ran; one with a poisoned image fails."""
    sizes: list[int] = []
    run = runner.Runner.run

    def watched(self, task, inputs, input_size, size):  # type: ignore[no-untyped-def]
        sizes.append(len(inputs))
        if any(int(each.image[0, 0, 0]) == POISON for each in inputs):
            raise RuntimeError("poison")
        return run(self, task, inputs, input_size, size)

    monkeypatch.setattr(runner.Runner, "run", watched)
    return sizes


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [each.result.kind if isinstance(each.result, Failure) else "" for each in outcomes]


def test_images_of_one_shape_share_batches_and_keep_their_order(batches: list[int]) -> None:
    sources = [source(str(number), grey=number) for number in range(10)]
    outcomes = list(here(ClassifyQuery()).outcomes(sources))
    assert [each.source.name for each in outcomes] == [str(number) for number in range(10)]
    assert batches == [4, 4, 2]
    documents = [
        each.result.document for each in outcomes if isinstance(each.result, PredictAnswer)
    ]
    assert [document.timing.batch_size for document in documents] == [4] * 8 + [2] * 2


def test_the_passes_over_an_image_in_tiles_share_batches(batches: list[int]) -> None:
    large = [source("a", size=(900, 600)), source("b", size=(300, 200)), source("c")]
    query = SegmentQuery(mask="none", tile=400)
    outcomes = list(here(query).outcomes(large))
    assert kinds(outcomes) == ["", "", ""]
    assert batches == [1, 4, 2, 1, 1]  # whole, six tiles; the others fit in a tile
    (first, *_) = outcomes
    assert isinstance(first.result, PredictAnswer)
    assert isinstance(first.result.document, SegmentResponse)
    assert sum(each.pixels for each in first.result.document.classes) == 900 * 600


def test_a_tile_that_fails_is_the_images_failure(batches: list[int]) -> None:
    query = SegmentQuery(mask="none", tile=400)
    sources = [source("a", POISON, (900, 600)), source("b", size=(900, 600))]
    assert kinds(list(here(query).outcomes(sources))) == ["inference-failed", ""]


def test_images_of_different_shapes_do_not_share_a_batch(batches: list[int]) -> None:
    sizes = [(64, 48), (64, 48), (48, 96), (64, 48)]
    sources = [source(str(number), size=size) for number, size in enumerate(sizes)]
    outcomes = list(here(SegmentQuery(mask="none")).outcomes(sources))
    assert batches == [2, 1, 1]
    assert [
        (each.result.document.image.width, each.result.document.image.height)
        for each in outcomes
        if isinstance(each.result, PredictAnswer)
    ] == sizes


def test_what_cannot_be_read_fails_in_its_place(batches: list[int]) -> None:
    bad = Source("bad", PurePath("bad"), b"no image")
    outcomes = list(here(ClassifyQuery()).outcomes([source("a"), bad, source("b"), bad]))
    assert kinds(outcomes) == ["", "invalid-image", "", "invalid-image"]
    assert batches == [2]


def test_an_image_that_fails_its_batch_fails_alone(batches: list[int]) -> None:
    sources = [source("a"), source("b"), source("poison", POISON), source("c")]
    outcomes = list(here(ClassifyQuery()).outcomes(sources))
    assert kinds(outcomes) == ["", "", "inference-failed", ""]
    assert batches == [4, 2, 2, 1, 1]


def test_too_little_memory_is_told_from_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runner.Runner, "run", run)
    (outcome,) = here(ClassifyQuery()).outcomes([source("a")])
    assert kinds([outcome]) == ["out-of-memory"]


@pytest.mark.parametrize("error_type", [RuntimeError, DeviceLostError])
def test_a_lost_device_ends_it(
    monkeypatch: pytest.MonkeyPatch, device: FakeDevice, error_type: type[Exception]
) -> None:
    def run(*_: object) -> None:
        with suppress(RuntimeError):
            device.lose()
        raise error_type("unspecified launch failure")

    monkeypatch.setattr(runner.Runner, "run", run)
    with pytest.raises(DeviceFailedError, match="unspecified launch failure"):
        list(here(ClassifyQuery()).outcomes([source("a"), source("b")]))


def test_an_output_that_is_not_finite_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object, __: object, inputs: list[object], *___: object) -> BatchResult:
        return BatchResult((None,) * len(inputs), 0.1, 0.1)

    monkeypatch.setattr(runner.Runner, "run", run)
    (outcome,) = here(ClassifyQuery()).outcomes([source("a")])
    assert isinstance(outcome.result, Failure)
    assert "output for this image is not usable" in outcome.result.detail


def test_scores_are_those_of_the_class_order() -> None:
    (outcome,) = here(ClassifyQuery(top_k=10)).outcomes([source("a")])
    assert isinstance(outcome.result, PredictAnswer)
    predictions = getattr(outcome.result.document, "predictions")  # noqa: B009 - of any task
    assert np.isclose(sum(each.score for each in predictions), 1.0)


def test_an_embedding_is_of_the_layer_that_is_named(batches: list[int]) -> None:
    (default,) = here(EmbedQuery()).outcomes([source("a")])
    (named,) = here(EmbedQuery(layer="stage2", normalize=True)).outcomes([source("a")])
    found = []
    for outcome in (default, named):
        assert isinstance(outcome.result, PredictAnswer)
        assert isinstance(outcome.result.document, EmbedResponse)
        found.append(outcome.result.document)
    assert [(each.layer, each.dimension) for each in found] == [("head", 256), ("stage2", 32)]
    assert np.isclose(np.linalg.norm(found[1].embedding), 1.0)


def test_class_maps_are_of_the_classes_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "explain_picture", lambda *_: b"a picture")
    predictor = here(ExplainQuery(class_id=[7, 2]), saves=True)
    (outcome,) = predictor.outcomes([source("a")])
    assert isinstance(outcome.result, PredictAnswer)
    assert outcome.result.picture == b"a picture"
    assert isinstance(outcome.result.document, ExplainResponse)
    maps = outcome.result.document.maps
    assert [each.class_id for each in maps] == [7, 2]
    assert all(np.isclose(np.mean(each.focus), each.logit, atol=1e-5) for each in maps)


def test_what_a_model_cannot_do_is_refused_before_there_is_work() -> None:
    with pytest.raises(InvalidParameterError, match="layer is 'neck'; demo has head"):
        here(EmbedQuery(layer="neck"))
    with pytest.raises(InvalidParameterError, match="class_id is 10; the classes of demo are 0"):
        here(ExplainQuery(class_id=[10]))
