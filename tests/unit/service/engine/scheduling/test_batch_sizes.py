from __future__ import annotations

import pytest

from model.config import Task
from service.engine.scheduling.batch_sizes import BatchSizer, batch_sizes_up_to
from service.engine.scheduling.queues import QueueKey

SQUARE = QueueKey(Task.CLASSIFY, (224, 224))
PHOTOGRAPH = QueueKey(Task.DETECT, (800, 1088))


def test_batch_sizes_are_powers_of_two_up_to_the_largest() -> None:
    assert batch_sizes_up_to(16) == (1, 2, 4, 8, 16)
    assert batch_sizes_up_to(12) == (1, 2, 4, 8, 12)
    assert batch_sizes_up_to(1) == (1,)


def test_an_unknown_input_size_costs_what_the_nearest_known_one_of_its_task_costs_by_area() -> None:
    batch_sizer = BatchSizer((1, 2))
    batch_sizer.observe(SQUARE, 1, 0.5)
    batch_sizer.observe(PHOTOGRAPH, 1, 9.0)
    assert batch_sizer.seconds(QueueKey(Task.CLASSIFY, (448, 448)), 1) == 2.0


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
