from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from service.engine.device import JOURNAL_BYTES, InFlightJournal, JournalEntry, QueueGauges
from service.engine.scheduling.scheduler import Scheduler

REQUESTS = [(b"http-0-17", 5), (b"http-1-18", 9)]


def test_a_new_engine_finds_the_batch_that_the_last_one_died_with(tmp_path: Path) -> None:
    InFlightJournal(tmp_path / "flight", "first").begin(REQUESTS)
    assert InFlightJournal(tmp_path / "flight", "second").last == JournalEntry("first", REQUESTS)


def test_a_batch_that_ended_is_nobodys_fault(tmp_path: Path) -> None:
    record = InFlightJournal(tmp_path / "flight", "first")
    record.begin(REQUESTS)
    record.end()
    assert InFlightJournal(tmp_path / "flight", "second").last is None


def test_the_first_engine_finds_nothing(tmp_path: Path) -> None:
    assert InFlightJournal(tmp_path / "flight", "first").last is None


def test_a_successor_that_ran_nothing_passes_the_record_on(tmp_path: Path) -> None:
    InFlightJournal(tmp_path / "flight", "first").begin(REQUESTS)
    InFlightJournal(tmp_path / "flight", "died while it loaded")
    assert InFlightJournal(tmp_path / "flight", "third").last == JournalEntry("first", REQUESTS)


def test_the_two_largest_batches_fit_into_the_room_that_was_taken_at_the_start(
    tmp_path: Path,
) -> None:
    largest = [(b"http-63-" + b"9" * 10, 2**63 - 1)] * 2 * 256
    record = InFlightJournal(tmp_path / "flight", "f" * 16)
    record.begin(largest)
    assert (tmp_path / "flight").stat().st_size == JOURNAL_BYTES
    found = InFlightJournal(tmp_path / "flight", "second").last
    assert found is not None
    assert found.requests == largest


async def test_the_queue_is_shown_once_for_all_changes_of_a_turn() -> None:
    asked: list[int] = []

    class Queue:
        waiting = 0

        def pending_work_seconds(self) -> float:
            asked.append(self.waiting)
            return 0.5

    queue = Queue()
    gauges = QueueGauges(cast("Scheduler[Any]", queue))
    for turn in range(1, 3):
        for _ in range(3):
            queue.waiting += 1
            gauges.update()
        assert len(asked) == turn - 1
        await asyncio.sleep(0)
    assert asked == [3, 6]
