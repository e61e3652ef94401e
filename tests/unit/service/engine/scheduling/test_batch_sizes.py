from __future__ import annotations

import pytest

from model.config import Task
from service.engine.scheduling.batch_sizes import Sizing, batch_sizes_up_to
from service.engine.scheduling.queues import QueueKey

SQUARE = QueueKey(Task.CLASSIFY, (224, 224))
PHOTOGRAPH = QueueKey(Task.DETECT, (800, 1088))


def test_batch_sizes_are_powers_of_two_up_to_the_largest() -> None:
    assert batch_sizes_up_to(16) == (1, 2, 4, 8, 16)
    assert batch_sizes_up_to(12) == (1, 2, 4, 8, 12)
    assert batch_sizes_up_to(1) == (1,)


def test_an_unknown_input_size_costs_what_the_nearest_known_one_of_its_task_costs_by_area() -> None:
    sizing = Sizing((1, 2))
    sizing.observe(SQUARE, 1, 0.5)
    sizing.observe(PHOTOGRAPH, 1, 9.0)
    assert sizing.seconds(QueueKey(Task.CLASSIFY, (448, 448)), 1) == 2.0


def test_who_joins_behind_a_full_batch_is_done_with_the_next_full_one() -> None:
    sizing = Sizing((1, 2, 4))
    for size in (1, 2, 4):
        sizing.observe(SQUARE, size, 0.1 + 0.1 * size)
    done = [sizing.drain_seconds(SQUARE, n) + sizing.joining_seconds(SQUARE, n) for n in (4, 5, 7)]
    assert done == pytest.approx([1.0] * 3)
    assert sizing.joining_seconds(SQUARE, 3) == pytest.approx(0.2)


def test_a_detector_s_batch_has_no_padding() -> None:
    sizing = Sizing((1, 2, 4))
    assert sizing.choose(PHOTOGRAPH, 3) == 3
    assert sizing.choose(SQUARE, 3) == 4


def test_not_even_the_smallest_batch_is_given_up() -> None:
    sizing = Sizing((2, 4))
    assert sizing.cap(SQUARE, 4) == 2
    assert sizing.cap(SQUARE, 2) == 2
    assert sizing.choose(SQUARE, 1) == 2
