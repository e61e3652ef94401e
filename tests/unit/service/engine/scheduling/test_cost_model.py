from __future__ import annotations

import pytest

from model.config import Operation, Task
from service.engine.scheduling.cost_model import (
    MAX_SLOWDOWN,
    AffineCost,
    BatchSizer,
    SlowdownEstimator,
    batch_sizes_up_to,
)
from service.engine.scheduling.queues import QueueKey


def test_an_affine_cost_is_learnt_exactly() -> None:
    cost = AffineCost()
    for size in (1, 2, 4, 8):
        cost.observe(size, 0.005 + 0.0005 * size, lasting=True)
    assert cost.fixed_seconds == pytest.approx(0.005)
    assert cost.per_image_seconds == pytest.approx(0.0005)
    assert cost.seconds(16) == pytest.approx(0.013)


def test_nothing_is_known_before_the_first_batch() -> None:
    cost = AffineCost()
    assert not cost.known
    assert cost.seconds(8) == 0.0


def test_a_single_observation_is_taken_as_proportional() -> None:
    cost = AffineCost()
    cost.observe(4, 0.2)
    assert cost.seconds(8) == pytest.approx(0.4)


def test_a_device_that_became_slower_is_noticed() -> None:
    cost = AffineCost()
    for size in (1, 2, 4, 8):
        cost.observe(size, 0.01 * size, lasting=True)
    for _ in range(200):
        cost.observe(8, 0.16)
    assert cost.seconds(8) == pytest.approx(0.16, rel=0.1)


def test_traffic_of_one_size_does_not_lose_the_slope() -> None:
    cost = AffineCost()
    for size in (1, 2, 4, 8):
        cost.observe(size, 0.005 + 0.0005 * size, lasting=True)
    for _ in range(500):
        cost.observe(1, 0.0055)
    assert cost.per_image_seconds == pytest.approx(0.0005, rel=1e-6)


def test_noise_never_makes_a_batch_cheaper_than_nothing() -> None:
    cost = AffineCost()
    cost.observe(1, 0.02)
    cost.observe(8, 0.01)
    assert cost.per_image_seconds == 0.0
    assert cost.fixed_seconds > 0.0


def run(slowdown: SlowdownEstimator, cycle_seconds: float, *, more_waits: bool = True) -> None:
    """Fifty batches that cost a second each, and begin at intervals."""
    for number in range(50):
        slowdown.begin(number * cycle_seconds, 1.0)
        slowdown.end(more_waits=more_waits)


def test_what_batches_take_beyond_their_cost_is_learnt() -> None:
    slowdown = SlowdownEstimator()
    run(slowdown, 1.2)
    assert slowdown.slowdown == pytest.approx(1.2, abs=0.01)
    run(slowdown, 1.0)
    assert slowdown.slowdown == pytest.approx(1.0, abs=0.01)


def test_a_device_that_waits_for_work_is_not_slow() -> None:
    slowdown = SlowdownEstimator()
    run(slowdown, 5.0, more_waits=False)
    assert slowdown.slowdown == 1.0


def test_a_pause_of_the_whole_machine_is_no_pace() -> None:
    slowdown = SlowdownEstimator()
    run(slowdown, 1000.0)
    assert slowdown.slowdown <= MAX_SLOWDOWN


SQUARE = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))


PHOTOGRAPH = QueueKey(Operation("net", Task.DETECT), (800, 1088))


def test_batch_sizes_are_powers_of_two_up_to_the_largest() -> None:
    assert batch_sizes_up_to(16) == (1, 2, 4, 8, 16)
    assert batch_sizes_up_to(12) == (1, 2, 4, 8, 12)
    assert batch_sizes_up_to(1) == (1,)


def test_an_unknown_input_size_costs_what_the_nearest_known_one_of_its_task_costs_by_area() -> None:
    batch_sizer = BatchSizer((1, 2))
    batch_sizer.observe(SQUARE, 1, 0.5)
    batch_sizer.observe(PHOTOGRAPH, 1, 9.0)
    assert batch_sizer.seconds(QueueKey(Operation("net", Task.CLASSIFY), (448, 448)), 1) == 2.0


def test_who_joins_behind_a_full_batch_is_done_with_the_next_full_one() -> None:
    batch_sizer = BatchSizer((1, 2, 4))
    for size in (1, 2, 4):
        batch_sizer.observe(SQUARE, size, 0.1 + 0.1 * size)
    done = [
        batch_sizer.drain_seconds(SQUARE, n) + batch_sizer.joining_seconds(SQUARE, n)
        for n in (4, 5, 7)
    ]
    assert done == pytest.approx([1.0] * 3)
    assert batch_sizer.joining_seconds(SQUARE, 3) == pytest.approx(0.2)


def test_a_detector_s_batch_has_no_padding() -> None:
    batch_sizer = BatchSizer((1, 2, 4))
    assert batch_sizer.choose(PHOTOGRAPH, 3) == 3
    assert batch_sizer.choose(SQUARE, 3) == 4


def test_not_even_the_smallest_batch_is_given_up() -> None:
    batch_sizer = BatchSizer((2, 4))
    assert batch_sizer.cap(SQUARE, 4) == 2
    assert batch_sizer.cap(SQUARE, 2) == 2
    assert batch_sizer.choose(SQUARE, 1) == 2
