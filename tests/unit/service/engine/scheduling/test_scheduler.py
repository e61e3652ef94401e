from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Operation, Task
from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.engine.scheduling.queues import AGEING_SECONDS, Batch, QueueKey, Request
from service.engine.scheduling.scheduler import HEADROOM, Scheduler

SQUARE = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
WIDE = QueueKey(Operation("net", Task.CLASSIFY), (224, 320))


@dataclass
class Clock:
    """A clock that the test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A scheduler, its clock, and a short way to hand requests in."""

    clock: Clock = field(default_factory=Clock)
    max_waiting: int = 64
    sizes: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        self.scheduler: Scheduler[str] = Scheduler(
            clock=self.clock, max_waiting=self.max_waiting, batch_sizes=self.sizes
        )

    def admit(self, name: str, timeout: float = 30.0, queue: QueueKey = SQUARE) -> None:
        now = self.clock.now
        self.scheduler.admit(Request(name, queue, now, now + timeout, name))

    def next_names(self) -> list[str]:
        batch = self.scheduler.next_batch()
        return [] if batch is None else names(batch)

    def teach(self, queue: QueueKey, fixed: float, per_image: float) -> None:
        for size in self.sizes:
            self.scheduler.learn(queue, size, fixed + per_image * size)


def names(batch: Batch[str]) -> list[str]:
    return [request.payload for request in batch.requests]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_free_device_takes_a_single_request_at_once(bench: Bench) -> None:
    bench.admit("a")
    batch = bench.scheduler.next_batch()
    assert batch is not None
    assert names(batch) == ["a"]
    assert batch.size == 1


def test_an_empty_scheduler_has_no_batch(bench: Bench) -> None:
    assert bench.scheduler.next_batch() is None


def test_what_waits_goes_together(bench: Bench) -> None:
    for name in "abcd":
        bench.admit(name)
    assert bench.next_names() == list("abcd")
    assert bench.next_names() == []


def test_a_batch_is_never_larger_than_the_largest_size(bench: Bench) -> None:
    for index in range(11):
        bench.admit(str(index))
    assert len(bench.next_names()) == 8
    assert len(bench.next_names()) == 3


def test_the_most_urgent_request_goes_first(bench: Bench) -> None:
    bench.admit("patient", timeout=1.5)
    bench.admit("urgent", timeout=0.5)
    assert bench.next_names() == ["urgent", "patient"]


def test_an_urgent_request_that_comes_late_still_gets_into_the_next_batch() -> None:
    bench = Bench(sizes=(1, 2))
    bench.admit("first", timeout=1.8)
    bench.admit("second", timeout=1.9)
    bench.admit("urgent", timeout=0.1)
    assert bench.next_names() == ["urgent", "first"]


def test_a_batch_holds_one_shape(bench: Bench) -> None:
    bench.admit("square", timeout=1.0)
    bench.admit("wide", timeout=0.5, queue=WIDE)
    bench.admit("square too", timeout=1.0)
    assert bench.next_names() == ["wide"]
    assert bench.next_names() == ["square", "square too"]


def test_a_request_that_has_waited_long_beats_any_stream_of_urgent_ones(bench: Bench) -> None:
    bench.admit("old", timeout=600.0, queue=WIDE)
    bench.clock.now += AGEING_SECONDS
    bench.admit("urgent", timeout=0.5)
    assert bench.next_names() == ["old"]


def test_padding_is_chosen_where_a_second_batch_costs_more(bench: Bench) -> None:
    bench.teach(SQUARE, fixed=0.1, per_image=0.001)
    for name in "abc":
        bench.admit(name)
    batch = bench.scheduler.next_batch()
    assert batch is not None
    assert (len(batch.requests), batch.size) == (3, 4)


def test_splitting_is_chosen_where_padding_costs_more(bench: Bench) -> None:
    bench.teach(SQUARE, fixed=0.001, per_image=0.1)
    for name in "abcde":
        bench.admit(name)
    batch = bench.scheduler.next_batch()
    assert batch is not None
    assert (len(batch.requests), batch.size) == (4, 4)
    assert bench.next_names() == ["e"]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    bench = Bench(max_waiting=2)
    bench.teach(SQUARE, fixed=1.0, per_image=0.5)
    bench.admit("a")
    bench.admit("b")
    with pytest.raises(QueueFullError) as raised:
        bench.admit("c")
    assert raised.value.retry_after_seconds == pytest.approx(2.0 * HEADROOM)
    assert bench.scheduler.waiting == 2


def test_a_deadline_that_the_work_ahead_does_not_allow_is_refused_at_once(bench: Bench) -> None:
    bench.teach(SQUARE, fixed=1.0, per_image=0.0)
    bench.admit("a")
    with pytest.raises(DeadlineUnreachableError):
        bench.admit("b", timeout=1.5)
    bench.admit("c", timeout=2.5)


def test_the_running_batch_counts_as_work_ahead(bench: Bench) -> None:
    bench.teach(SQUARE, fixed=1.0, per_image=0.0)
    bench.admit("a")
    batch = bench.scheduler.next_batch()
    assert batch is not None
    bench.clock.now += 0.25
    assert bench.scheduler.pending_work_seconds() == pytest.approx(0.75)
    bench.scheduler.finished(batch, 1.0, 1.0)
    assert bench.scheduler.pending_work_seconds() == 0.0


def test_an_expired_request_never_reaches_the_device(bench: Bench) -> None:
    bench.admit("late", timeout=1.0)
    bench.admit("early", timeout=5.0)
    assert bench.scheduler.next_deadline() == pytest.approx(bench.clock.now + 1.0)
    bench.clock.now += 1.0
    assert [request.payload for request in bench.scheduler.expire()] == ["late"]
    assert bench.next_names() == ["early"]


def test_a_cancelled_request_never_reaches_the_device(bench: Bench) -> None:
    bench.admit("gone")
    bench.admit("here")
    assert bench.scheduler.cancel("gone")
    assert not bench.scheduler.cancel("gone")
    assert bench.next_names() == ["here"]
    assert bench.scheduler.next_deadline() is None


def test_what_belongs_to_someone_who_is_gone_is_dropped_also_if_its_batch_fails(
    bench: Bench,
) -> None:
    batch = failing_batch(bench, 2)  # of "0" and "1"
    bench.admit("2")
    assert bench.scheduler.cancel_all(lambda request: request.payload in {"0", "2"}) == 1
    assert [request.payload for request in bench.scheduler.split(batch)] == ["1"]
    assert bench.scheduler.waiting == 1


def test_a_request_sent_twice_waits_once(bench: Bench) -> None:
    bench.admit("a")
    bench.admit("a")
    assert bench.scheduler.waiting == 1
    assert bench.next_names() == ["a"]


def failing_batch(bench: Bench, count: int) -> Batch[str]:
    for index in range(count):
        bench.admit(str(index))
    batch = bench.scheduler.next_batch()
    assert batch is not None
    bench.scheduler.failed(batch, 0.1)
    return batch


def test_the_halves_of_a_failed_batch_run_apart_and_nobody_joins_them(bench: Bench) -> None:
    bench.scheduler.split(failing_batch(bench, 5))
    bench.admit("innocent", timeout=1.0)
    ran = [bench.next_names() for _ in range(3)]
    assert sorted(ran) == [["0", "1", "2"], ["3", "4"], ["innocent"]]


def test_halves_wait_as_any_request_does(bench: Bench) -> None:
    batch = failing_batch(bench, 4)
    bench.scheduler.cancel("1")  # while it is on the device
    bench.scheduler.split(batch)
    assert bench.scheduler.waiting == 3
    assert bench.scheduler.cancel("2")
    bench.clock.now += 31
    assert {request.payload for request in bench.scheduler.expire()} == {"0", "3"}
    assert bench.scheduler.next_batch() is None


def test_a_request_that_has_to_be_alone_is_alone(bench: Bench) -> None:
    now = bench.clock.now
    for name, alone in (("a", False), ("suspect", True), ("b", False)):
        bench.scheduler.admit(Request(name, SQUARE, now, now + 30, name, alone=alone))
    assert sorted([bench.next_names(), bench.next_names()]) == [["a", "b"], ["suspect"]]


def test_a_batch_that_did_not_fit_in_memory_lowers_the_cap_of_its_shape(bench: Bench) -> None:
    batch = failing_batch(bench, 5)
    assert bench.scheduler.cap(batch) == 4
    bench.scheduler.split(batch)
    for index in range(8):
        bench.admit(f"more {index}")
        bench.admit(f"wide {index}", queue=WIDE)
    sizes: dict[QueueKey, list[int]] = {SQUARE: [], WIDE: []}
    while (batch := bench.scheduler.next_batch()) is not None:  # type: ignore[assignment]
        sizes[batch.queue.shape].append(batch.size)
    assert max(sizes[SQUARE]) == 4
    assert max(sizes[WIDE]) == 8


def test_what_closed_queues_cost_is_learnt_for_everyone(bench: Bench) -> None:
    bench.scheduler.split(failing_batch(bench, 2))
    batch = bench.scheduler.next_batch()
    assert batch is not None
    bench.scheduler.finished(batch, 0.5, 0.5)
    assert list(bench.scheduler.costs) == [SQUARE]


Event = tuple[str, int, float]
events = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 1), st.floats(0.01, 5.0)),
        st.tuples(st.just("cancel"), st.integers(0, 60), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0.0, 2.0)),
        st.tuples(st.just("batch"), st.just(0), st.floats(0.0, 0.5)),
    ),
    max_size=80,
)


@settings(deadline=None)  # a busy machine is slow
@given(events)
def test_every_request_ends_exactly_once_and_in_a_batch_of_its_shape(steps: list[Event]) -> None:
    bench = Bench(max_waiting=16)
    admitted: dict[str, tuple[QueueKey, float]] = {}
    ended: list[str] = []
    for index, (kind, number, seconds) in enumerate(steps):
        if kind == "admit":
            queue = (SQUARE, WIDE)[number]
            try:
                bench.admit(str(index), timeout=seconds, queue=queue)
            except (QueueFullError, DeadlineUnreachableError):
                continue
            admitted[str(index)] = (queue, bench.clock.now + seconds)
        elif kind == "cancel":
            if bench.scheduler.cancel(str(number)):
                ended.append(str(number))
        elif kind == "pass":
            bench.clock.now += seconds
        else:
            ended += [request.payload for request in bench.scheduler.expire()]
            waiting = bench.scheduler.waiting
            batch = bench.scheduler.next_batch()
            assert (batch is None) == (waiting == 0)
            if batch is not None:
                assert 1 <= len(batch.requests) <= batch.size
                assert all(admitted[name][0] == batch.queue for name in names(batch))
                assert all(admitted[name][1] > bench.clock.now for name in names(batch))
                ended += names(batch)
                bench.clock.now += seconds
                bench.scheduler.finished(batch, seconds, seconds)
    while (batch := bench.scheduler.next_batch()) is not None:
        ended += names(batch)
    assert sorted(ended) == sorted(admitted)
    assert bench.scheduler.waiting == 0


def test_no_batch_of_a_task_is_larger_than_what_fits_the_device(bench: Bench) -> None:
    bench.scheduler.limit(SQUARE.operation, 2)
    for index in range(5):
        bench.admit(str(index))
    sizes = []
    while (batch := bench.scheduler.next_batch()) is not None:
        sizes.append(batch.size)
    assert sizes == [2, 2, 1]
