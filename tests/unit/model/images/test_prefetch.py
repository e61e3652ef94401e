from __future__ import annotations

import threading

import pytest

from model.evaluation.images import EvaluationError
from model.images.prefetch import prefetch


def test_items_come_in_order_however_long_they_take() -> None:
    second_is_read = threading.Event()

    def read(index: int) -> int:
        if index == 0:
            second_is_read.wait(timeout=1)  # on a machine of one core, in vain
        if index == 1:
            second_is_read.set()
        return index

    assert list(prefetch(read, range(8), ahead=4)) == list(range(8))


def test_no_more_is_read_than_ahead_and_the_one_that_is_wanted() -> None:
    indexes: list[int] = []
    reads = threading.Semaphore(0)

    def read(index: int) -> int:
        indexes.append(index)
        reads.release()
        return index

    items = prefetch(read, range(100), ahead=5)
    assert next(items) == 0
    assert all(reads.acquire(timeout=10) for _ in range(6))
    items.close()
    assert sorted(indexes) == [0, 1, 2, 3, 4, 5]


def test_what_a_reader_raises_arrives() -> None:
    def read(index: int) -> int:
        raise EvaluationError(f"item {index} is damaged")

    with pytest.raises(EvaluationError, match="item 0 is damaged"):
        list(prefetch(read, range(3), ahead=2))
