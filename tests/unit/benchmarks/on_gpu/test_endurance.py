"""An answer that is another image's, or none, is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from benchmarks.on_gpu import endurance
from benchmarks.on_gpu.endurance import Mixture
from model.inference.staging import Staging

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.inference.predictor import Predictor

SIZES = [(4, 4), (2, 6)]


class FakePredictor:
    """Answers with an image's first row, and can be spoilt."""

    def __init__(self) -> None:
        self.staging = Staging(torch.device("cpu"))
        self.shapes: list[tuple[int, int, int]] = []
        self.spoil: Callable[[list[Any]], list[Any]] = lambda answers: answers

    def classify(
        self, images: Sequence[Any], shape: tuple[int, int, int]
    ) -> list[NDArray[np.float32] | None]:
        self.shapes.append(shape)
        pixels = [np.asarray(each.pixels if hasattr(each, "pixels") else each) for each in images]
        assert all(image.shape[:2] == shape[1:] for image in pixels)
        assert 0 < len(pixels) <= shape[0]
        return self.spoil([image[0].astype(np.float32).ravel() for image in pixels])


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> FakePredictor:
    monkeypatch.setattr(endurance, "CHECK_EVERY", 1)
    return FakePredictor()


def mixture_of(predictor: FakePredictor) -> Mixture:
    return Mixture(cast("Predictor", predictor), (1, 2, 8), SIZES)


def test_right_answers_are_right_in_every_shape(predictor: FakePredictor) -> None:
    mixture = mixture_of(predictor)
    predictor.shapes.clear()
    run = mixture.run(200, most_seconds=60.0)
    assert (run.batches, run.wrong, run.largest_error) == (200, 0, 0.0)
    assert run.checked >= 200
    assert set(predictor.shapes) == {(places, *size) for places in (1, 2, 8) for size in SIZES}


@pytest.mark.parametrize(
    "spoil", [lambda answers: [*answers[1:], answers[0]], lambda answers: [None for _ in answers]]
)
def test_answers_that_changed_places_or_are_none_are_wrong(
    predictor: FakePredictor, spoil: Any
) -> None:
    mixture = mixture_of(predictor)
    predictor.spoil = spoil
    assert mixture.run(50, most_seconds=60.0).wrong > 0


def test_it_ends_when_its_time_is_up(predictor: FakePredictor) -> None:
    assert mixture_of(predictor).run(10, most_seconds=0.0).batches == 0
