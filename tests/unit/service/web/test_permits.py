from __future__ import annotations

import asyncio

import pytest

from model.config import Task
from service.errors import MemoryFullError, QueueFullError
from service.web.permits import Permits


@pytest.fixture
def permits() -> Permits:
    return Permits(max_requests=2, max_bytes=100, retry_after_seconds=lambda: 7.5)


def test_no_more_requests_of_a_task_are_let_in_than_allowed(permits: Permits) -> None:
    with permits.take(Task.CLASSIFY), permits.take(Task.CLASSIFY):
        with pytest.raises(QueueFullError) as raised, permits.take(Task.CLASSIFY):
            pass
        with permits.take(Task.SEGMENT):
            assert permits.taken == {Task.CLASSIFY: 2, Task.SEGMENT: 1, Task.DETECT: 0}
    assert raised.value.retry_after_seconds == 7.5
    assert set(permits.taken.values()) == {0}


def test_bytes_are_counted_over_all_tasks_and_given_back(permits: Permits) -> None:
    with permits.take(Task.CLASSIFY) as first:
        first.hold(60)
        with permits.take(Task.SEGMENT) as second:
            second.hold(40)
            with pytest.raises(MemoryFullError) as raised:
                second.hold(41)
        assert permits.held_bytes == 60
    assert permits.held_bytes == 0
    assert "100 bytes" in raised.value.detail


def test_a_permit_holds_the_most_that_it_was_asked_to(permits: Permits) -> None:
    with permits.take(Task.CLASSIFY) as permit:
        for size_bytes in (10, 30, 20):
            permit.hold(size_bytes)
        assert permits.held_bytes == 30


@pytest.mark.parametrize("ending", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_permit_is_freed_however_its_block_ends(
    permits: Permits, ending: type[BaseException]
) -> None:
    def fail() -> None:
        with permits.take(Task.CLASSIFY) as permit:
            permit.hold(50)
            raise ending

    with pytest.raises(ending):
        fail()
    assert permits.held_bytes == 0
    assert permits.taken[Task.CLASSIFY] == 0
