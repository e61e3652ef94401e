"""What holds for every pattern of arrivals: steady, random or in bursts, of mixed shapes."""

from __future__ import annotations

import math
import random
from collections import deque
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import Operation, Task
from service.api.errors import DeadlineUnreachableError
from service.engine.scheduling.queues import AGEING_SECONDS, QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler
from support.simulation import Arrival, Simulation, arrival_times

COSTS = {
    QueueKey(Operation("net", Task.CLASSIFY), (224, 224)): (0.005, 0.0005),
    QueueKey(Operation("net", Task.SEGMENT), (512, 704)): (0.02, 0.05),
    QueueKey(Operation("net", Task.SEGMENT), (704, 512)): (0.02, 0.05),
    QueueKey(Operation("net", Task.DETECT), (800, 1088)): (0.01, 0.3),
}
LONGEST_TIMEOUT_SECONDS = 60.0

# On a busy machine any example may be slow.
some = settings(max_examples=40, deadline=None)


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    """A simulation that has run."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    pattern = draw(st.sampled_from(["steady", "poisson", "bursts"]))
    rate = draw(st.sampled_from([5.0, 50.0, 500.0]))
    shapes = draw(st.lists(st.sampled_from(list(COSTS)), min_size=1, max_size=4, unique=True))
    leavers, poison = draw(st.sampled_from([(0.0, 0.0), (0.2, 0.0), (0.2, 0.05)]))
    arrivals = [
        Arrival(
            at,
            chance.choice(shapes),
            timeout=chance.choice([0.05, 0.5, 5.0, LONGEST_TIMEOUT_SECONDS]),
            leaves_after=chance.uniform(0.0, 1.0) if chance.random() < leavers else None,
            poisonous=chance.random() < poison,
        )
        for at in arrival_times(pattern, 80, rate, chance)
    ]
    simulation = Simulation(arrivals, COSTS, max_waiting=draw(st.sampled_from([4, 64])))
    simulation.run_all()
    return simulation


@some
@given(simulations())
def test_every_request_comes_to_exactly_one_end(simulation: Simulation) -> None:
    assert {number: len(ends) for number, ends in simulation.outcomes.items()} == dict.fromkeys(
        range(len(simulation.arrivals)), 1
    )
    assert simulation.scheduler.waiting == 0
    assert simulation.scheduler.pending_work_seconds() == 0.0


@some
@given(simulations())
def test_only_poison_fails(simulation: Simulation) -> None:
    for number, (end,) in simulation.outcomes.items():
        assert (end == "failed") <= simulation.arrivals[number].poisonous
        assert (end == "answered") <= (not simulation.arrivals[number].poisonous)


@some
@given(simulations())
def test_a_batch_holds_one_shape_and_not_more_than_its_places(simulation: Simulation) -> None:
    for launch in simulation.batches:
        batch = launch.batch
        assert 1 <= len(batch.requests) <= batch.size <= 8
        assert {request.queue for request in batch.requests} == {batch.queue}
        assert {request.payload.queue for request in batch.requests} == {batch.queue.shape}


@some
@given(simulations())
def test_nothing_expired_or_abandoned_goes_to_the_device(simulation: Simulation) -> None:
    for launch in simulation.batches:
        for request in launch.batch.requests:
            arrival = request.payload
            leaves_at = arrival.at + (arrival.leaves_after or math.inf)
            assert launch.started < min(request.deadline, leaves_at)


@some
@given(simulations())
def test_nobody_is_overtaken_by_who_came_much_later(simulation: Simulation) -> None:
    for launch in simulation.batches:
        head = launch.batch.requests[0]
        for other in launch.left_waiting:
            if other.queue.operation.task is head.queue.operation.task:
                assert head.arrived <= other.arrived + AGEING_SECONDS


def test_a_patient_request_is_not_starved_by_a_stream_of_urgent_ones() -> None:
    detect = QueueKey(Operation("net", Task.DETECT), (800, 1088))
    urgent = [Arrival(number / 4, detect, timeout=5.0) for number in range(160)]  # too many
    simulation = Simulation([*urgent, Arrival(20.0, detect, timeout=60.0)], COSTS)
    simulation.run_all()
    (launch,) = [
        each
        for each in simulation.batches
        if any(request.payload.timeout == 60.0 for request in each.batch.requests)
    ]
    # Requests within the ageing bound may go first: five seconds of work were admitted by then.
    assert launch.started - 20.0 < AGEING_SECONDS + 5.0


@some
@given(simulations())
def test_the_device_never_idles_while_someone_waits(simulation: Simulation) -> None:
    free_at = 0.0
    for launch in simulation.batches:
        # It began when it was free, or when the first of its requests came.
        came_last = max(request.arrived for request in launch.batch.requests)
        assert launch.started <= max(free_at, came_last) + 1e-9
        free_at = launch.ended


@some
@given(simulations())
def test_the_seconds_of_work_are_bounded_by_what_callers_wait(simulation: Simulation) -> None:
    tasks = {arrival.queue.operation.task for arrival in simulation.arrivals}
    # What is admitted of one task would be done within its own deadline if it were alone.
    assert simulation.most_pending_seconds <= len(tasks) * LONGEST_TIMEOUT_SECONDS + 1e-9


def test_every_request_admitted_under_overload_is_answered_in_time() -> None:
    """Everything takes a tenth longer than it costs, give or take as much."""
    shape, sizes, now = QueueKey(Operation("net", Task.CLASSIFY), (224, 224)), (1, 2, 4, 8, 16), 0.0
    scheduler: Scheduler[None] = Scheduler(clock=lambda: now, max_waiting=1000, batch_sizes=sizes)
    for size in sizes:
        scheduler.learn(shape, size, 0.1 + 0.01 * size)
    capacity, chance = 16 / (1.1 * 0.26), random.Random(3)
    arrivals = deque(arrival_times("poisson", 4000, 2 * capacity, chance))
    answered = late = expired = 0
    while arrivals:
        expired += len(scheduler.expire())
        batch = scheduler.next_batch()
        seconds = 0.001 if batch is None else 0.1 + 0.01 * batch.size
        ends = now + seconds * chance.uniform(1.0, 1.2)
        while arrivals and arrivals[0] <= ends:
            now = arrivals.popleft()
            with suppress(DeadlineUnreachableError):
                scheduler.admit(Request(now, shape, now, now + 2.0, None))
        now = ends
        if batch is not None:
            scheduler.finished(batch, seconds, seconds)
            late += sum(request.deadline < ends for request in batch.requests)
            answered += sum(request.deadline >= ends for request in batch.requests)
    assert late + expired <= 0.005 * answered
    assert answered >= 0.97 * capacity * now


@some
@given(st.integers(1, 40), st.floats(0.01, 0.2))
def test_retry_after_is_true(waiting: int, timeout: float) -> None:
    """A request that comes back after that time is admitted, unless others came in between."""
    shape = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
    costs = {shape: (0.005, 0.0005)}
    simulation = Simulation([Arrival(0.0, shape, 60.0)] * waiting, costs)
    for number in range(waiting):
        simulation._arrive(number)
    needed = simulation.scheduler.wait_seconds()[shape.operation] + 0.0055
    retry_after = max(needed - timeout, 0.0)
    while retry_after > simulation.now and (launch := simulation._start_batch()):
        simulation.now = launch.ended
        simulation._finish(launch)
    left = simulation.scheduler.wait_seconds()[shape.operation] + 0.0055
    # The moment of coming back lies in the middle of a batch, whose rest still counts.
    assert left <= max(timeout, 0.0055) + 0.0055 + 1e-9
