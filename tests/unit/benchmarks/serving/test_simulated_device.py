from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serving.simulated_device import CLASSES, DeviceCost, image_scores, run_batch

COST = DeviceCost(fixed_seconds=0.005, per_image_seconds=0.0005)


class Clock:
    """Stands still but for sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def images(count: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("places", "seconds"), [(None, 0.0065), (4, 0.007)])
def test_a_batch_takes_what_its_places_cost(places: int | None, seconds: float) -> None:
    clock = Clock()
    run_batch(images(3), COST, places=places, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(seconds)


def test_scores_are_an_images_own_whatever_batch_it_is_in() -> None:
    clock, batch = Clock(), images(3)
    together = run_batch(batch, COST, clock=clock, sleep=clock.sleep)
    for image, scores in zip(batch, together, strict=True):
        assert scores.shape == (CLASSES,)
        # float32 sums of a thousand values.
        assert float(scores.sum()) == pytest.approx(1.0, abs=1e-4)
        np.testing.assert_array_equal(scores, image_scores(image))
    assert len({int(scores.argmax()) for scores in together}) == 3
