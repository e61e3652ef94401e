"""A batch is composed while another runs only if it is full; both are accounted for."""

from __future__ import annotations

import pytest

from model.config import Operation, Task
from service.engine.scheduling.queues import Batch, QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler

SQUARE = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
WIDE = QueueKey(Operation("net", Task.SEGMENT), (224, 320))
SIZES = (1, 2, 4)


class Bench:
    """A scheduler whose batches cost a second an image, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.scheduler: Scheduler[str] = Scheduler(
            clock=lambda: self.now, max_waiting=64, batch_sizes=SIZES
        )
        for size in SIZES:
            for key in (SQUARE, WIDE):
                self.scheduler.learn(key, size, 0.1 * size)

    def admit(self, names: str, queue: QueueKey = SQUARE, *, alone: bool = False) -> None:
        for name in names:
            self.scheduler.admit(Request(name, queue, self.now, self.now + 60, name, alone=alone))

    def next(self, *, full: bool = False) -> Batch[str]:
        batch = self.scheduler.next_batch(full=full)
        assert batch is not None
        return batch


@pytest.fixture
def bench() -> Bench:
    return Bench()


def names(batch: Batch[str]) -> str:
    return "".join(request.payload for request in batch.requests)


def test_only_a_full_batch_is_composed_behind_another(bench: Bench) -> None:
    bench.admit("abcdefg")
    assert names(bench.next()) == "abcd"
    assert bench.scheduler.next_batch(full=True) is None
    bench.admit("h")
    assert names(bench.next(full=True)) == "efgh"
    assert bench.scheduler.next_batch(full=True) is None


def test_a_full_batch_does_not_overtake_the_task_that_goes_next(bench: Bench) -> None:
    bench.admit("abcdefgh")
    bench.next()
    bench.admit("x", WIDE)
    assert bench.scheduler.next_batch(full=True) is None
    bench.admit("yzw", WIDE)
    assert names(bench.next(full=True)) == "xyzw"


def test_suspects_are_never_behind_another(bench: Bench) -> None:
    bench.admit("abcd")
    failed = bench.next()
    bench.admit("x", WIDE)
    bench.next()
    bench.scheduler.failed(failed, 0.4)
    bench.scheduler.split(failed)
    bench.admit("p", alone=True)
    assert bench.scheduler.next_batch(full=True) is None


def test_both_batches_are_work_that_is_pending(bench: Bench) -> None:
    bench.admit("abcdefgh")
    first = bench.next()
    second = bench.next(full=True)
    assert bench.scheduler.pending_work_seconds() == pytest.approx(0.8)
    bench.now += 0.3
    assert bench.scheduler.pending_work_seconds() == pytest.approx(0.5)
    bench.now += 0.1
    bench.scheduler.finished(first, 0.4, 0.4)
    assert bench.scheduler.pending_work_seconds() == pytest.approx(0.4)
    bench.now += 0.4
    bench.scheduler.finished(second, 0.4, 0.4)
    assert bench.scheduler.pending_work_seconds() == 0


def test_an_overlap_is_no_slowdown(bench: Bench) -> None:
    bench.admit("abcdefgh")
    first, second = bench.next(), bench.next(full=True)
    bench.now += 0.4
    bench.scheduler.finished(first, 0.4, 0.4)
    bench.admit("ijkl")
    third = bench.next(full=True)
    bench.now += 0.4
    bench.scheduler.finished(second, 0.4, 0.4)
    assert third.size == 4
    assert bench.scheduler.pending_work_seconds() == pytest.approx(0.4)


def test_each_batch_is_charged_its_own_time(bench: Bench) -> None:
    bench.admit("abcd")
    first = bench.next()
    bench.admit("wxyz", WIDE)
    second = bench.next(full=True)
    bench.scheduler.finished(first, 2.0, 0.4)  # the classifier has had more than its share now
    bench.scheduler.finished(second, 0.4, 0.4)
    bench.admit("e")
    bench.admit("v", WIDE)
    assert names(bench.next()) == "v"


def test_cancellations_on_the_device_are_known_for_each_batch(bench: Bench) -> None:
    bench.admit("abcdefgh")
    first, second = bench.next(), bench.next(full=True)
    for name in "af":
        bench.scheduler.cancel(name)
    bench.scheduler.failed(first, 0.4)
    assert [request.payload for request in bench.scheduler.split(first)] == ["b", "c", "d"]
    bench.scheduler.failed(second, 0.4)
    assert [request.payload for request in bench.scheduler.split(second)] == ["e", "g", "h"]
