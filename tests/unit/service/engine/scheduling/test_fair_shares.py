"""Tasks share the device fairly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import Operation, Task
from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.engine.scheduling.cost_model import BATCH_SECONDS
from service.engine.scheduling.queues import QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler

CLASSIFY = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
SEGMENT = QueueKey(Operation("net", Task.SEGMENT), (512, 704))
DETECT = QueueKey(Operation("net", Task.DETECT), (800, 1088))
SECONDS = {CLASSIFY: 0.1, SEGMENT: 1.0, DETECT: 3.0}


class Device:
    """A device that takes the known time for everything, and what it has run."""

    def __init__(self, max_waiting: int = 64) -> None:
        self.now = 100.0
        self.scheduler: Scheduler[None] = Scheduler(
            clock=lambda: self.now, max_waiting=max_waiting, batch_sizes=(1, 2, 4)
        )
        self.ran: list[Task] = []
        self.done_after: dict[str, float] = {}
        for key, seconds in SECONDS.items():
            for size in (1, 2):
                self.scheduler.learn(key, size, seconds * size)

    def admit(self, name: str, queue: QueueKey, timeout: float = 600.0) -> None:
        self.scheduler.admit(Request(name, queue, self.now, self.now + timeout, None))

    def run(self) -> bool:
        """Run one batch to its end; return whether there was one."""
        batch = self.scheduler.next_batch()
        if batch is None:
            return False
        seconds = SECONDS[batch.queue] * batch.size
        self.now += seconds
        self.scheduler.finished(batch, seconds, seconds)
        self.ran.append(batch.queue.operation.task)
        for request in batch.requests:
            self.done_after[str(request.identity)] = self.now - request.arrived
        return True


def test_a_classification_waits_for_one_detection_however_many_came_before() -> None:
    device = Device()
    for index in range(20):
        device.admit(f"detection {index}", DETECT)
    device.run()
    device.run()
    device.admit("classification", CLASSIFY)
    device.run()
    assert device.ran == [Task.DETECT, Task.DETECT, Task.CLASSIFY]


def test_classifications_that_keep_coming_leave_a_detection_its_half() -> None:
    device = Device()
    device.admit("detection", DETECT)
    for index in range(100):
        device.admit(f"{index} a", CLASSIFY)
        device.run()
        if "detection" in device.done_after:
            break
    # It goes first or after as much classification as it takes itself.
    assert device.done_after["detection"] <= 2 * SECONDS[DETECT] + 0.4


@pytest.mark.parametrize("others", [(SEGMENT,), (SEGMENT, DETECT)])
def test_busy_tasks_get_equal_shares_of_the_device(others: tuple[QueueKey, ...]) -> None:
    device = Device(max_waiting=10_000)
    for index in range(1000):
        device.admit(f"c{index}", CLASSIFY)
    for key in others:
        for index in range(60):
            device.admit(f"{key.operation.task}{index}", key)
    started = device.now
    used = dict.fromkeys(Task, 0.0)
    while device.now - started < 40:
        before = device.now
        device.run()
        used[device.ran[-1]] += device.now - before
    shares = [used[key.operation.task] for key in (CLASSIFY, *others)]
    assert max(shares) - min(shares) <= SECONDS[DETECT]


def test_a_task_that_was_idle_has_saved_nothing_up() -> None:
    device = Device()
    for index in range(10):
        device.admit(f"detection {index}", DETECT)
        device.run()
    for index in range(4):
        device.admit(f"late {index}", SEGMENT)
        device.admit(f"detection again {index}", DETECT)
    device.ran.clear()
    while device.run():
        pass
    assert Task.DETECT in device.ran[:3]


def test_a_slow_batch_is_kept_short_for_the_others_sake() -> None:
    device = Device()
    for index in range(4):
        device.admit(f"segmentation {index}", SEGMENT)
    batch = device.scheduler.next_batch()
    assert batch is not None
    assert SECONDS[SEGMENT] * batch.size <= BATCH_SECONDS < SECONDS[SEGMENT] * 4


def test_what_cannot_be_short_runs_alone() -> None:
    device = Device()
    for index in range(4):
        device.admit(f"detection {index}", DETECT)
    batch = device.scheduler.next_batch()
    assert batch is not None
    assert batch.size == 1
    assert SECONDS[DETECT] > BATCH_SECONDS


def test_a_flood_of_one_task_leaves_room_for_another() -> None:
    device = Device(max_waiting=3)
    for index in range(3):
        device.admit(f"detection {index}", DETECT)
    with pytest.raises(QueueFullError, match="3 requests are waiting; the limit is 3"):
        device.admit("one more", DETECT)
    device.admit("classification", CLASSIFY)
    assert device.scheduler.waiting == 4


def test_a_deadline_is_judged_by_the_wait_that_fairness_allows() -> None:
    device = Device()
    for index in range(20):
        device.admit(f"detection {index}", DETECT)
    device.admit("classification", CLASSIFY, timeout=4.0)
    with pytest.raises(DeadlineUnreachableError):
        device.admit("detection too", DETECT, timeout=4.0)


def test_a_task_whose_turn_is_next_waits_for_no_other_than_the_running_batch() -> None:
    device = Device()
    for index in range(20):
        device.admit(f"segmentation {index}", SEGMENT)
    assert device.scheduler.next_batch() is not None  # two of them, for two seconds
    with pytest.raises(DeadlineUnreachableError, match=r"expected in 2\.11 seconds"):
        device.admit("hasty", CLASSIFY, timeout=2.0)
    device.admit("classification", CLASSIFY, timeout=2.2)


def test_a_batch_that_fails_is_charged_what_it_took() -> None:
    device = Device()
    for index in range(4):
        device.admit(f"detection {index}", DETECT)
        device.admit(f"segmentation {index}", SEGMENT)
    batch = device.scheduler.next_batch()
    assert batch is not None
    assert batch.queue.operation.task is Task.DETECT
    device.scheduler.failed(batch, 0.0)  # at once: it has had nothing
    device.run()
    device.run()
    assert device.ran == [Task.SEGMENT, Task.DETECT]


def test_results_of_a_huge_photograph_do_not_raise_the_cost_of_the_next_request() -> None:
    device = Device()
    for index in range(50):
        device.admit(f"huge {index}", SEGMENT)
        batch = device.scheduler.next_batch()
        assert batch is not None
        device.scheduler.finished(batch, device_seconds=9.0, network_seconds=1.0)
    device.admit("small", SEGMENT, timeout=1.3)


def test_detections_are_batched_without_padding() -> None:
    device = Device()
    device.scheduler.costs.clear()
    for size in (1, 2, 4):
        device.scheduler.learn(DETECT, size, 0.1 + 0.001 * size)
        device.scheduler.learn(SEGMENT, size, 0.1 + 0.001 * size)
    sizes = {}
    for key in (DETECT, SEGMENT):
        for index in range(3):
            device.admit(f"{key.operation.task} {index}", key)
        batch = device.scheduler.next_batch()
        assert batch is not None
        sizes[key.operation.task] = (len(batch.requests), batch.size)
    assert sizes == {Task.DETECT: (3, 3), Task.SEGMENT: (3, 4)}


def test_the_backlog_of_a_slow_task_is_counted_in_the_batches_that_it_gets() -> None:
    device = Device()
    device.scheduler.costs.clear()
    for size in (1, 2):
        device.scheduler.learn(DETECT, size, 1.0 + 2.0 * size)
    for index in range(4):
        device.admit(f"detection {index}", DETECT)
    assert device.scheduler.pending_work_seconds() == pytest.approx(4 * 3.0)


def test_an_input_size_never_seen_is_judged_by_its_nearest_relative() -> None:
    device = Device()
    twice_the_area = QueueKey(Operation("net", Task.SEGMENT), (1024, 704))
    with pytest.raises(DeadlineUnreachableError, match=r"expected in 2\.2 seconds"):
        device.admit("large", twice_the_area, timeout=2.1)
    device.admit("large", twice_the_area, timeout=2.3)


@given(st.lists(st.tuples(st.sampled_from([CLASSIFY, SEGMENT, DETECT]), st.booleans())))
def test_every_request_is_run_once_whatever_comes(steps: list[tuple[QueueKey, bool]]) -> None:
    device = Device(max_waiting=1000)
    for index, (key, run) in enumerate(steps):
        device.admit(str(index), key)
        if run:
            device.run()
    while device.run():
        pass
    assert len(device.done_after) == len(steps)
    assert device.scheduler.pending_work_seconds() == 0
