"""The simulation against queueing theory, and against replicas that are simulated one by one."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from model.config import Operation, Task
from service.commands.bench.generator import poisson_arrivals
from service.commands.bench.summary import percentile
from service.commands.plan.replica import ReplicaSetup, Target, meets, simulate
from service.engine.scheduling.cost_model import AffineCost
from service.engine.scheduling.queues import QueueKey
from support.simulation import Arrival, Simulation

SETUP = ReplicaSetup(
    Task.CLASSIFY,
    AffineCost(0.005, 0.0005),
    batch_limit=4,
    max_waiting=256,
    timeout_seconds=30.0,
)
ALONE_SECONDS = 0.0055


@pytest.mark.slow
@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_one_by_one_the_wait_is_pollaczeks_and_khinchines(utilisation: float) -> None:
    rate = utilisation / ALONE_SECONDS
    found = simulate(replace(SETUP, batch_limit=1), rate, requests=20_000)
    wait_seconds = utilisation * ALONE_SECONDS / (2 * (1 - utilisation))
    assert found.mean_seconds is not None
    # Chance: a standard error of two percent of the wait.
    assert found.mean_seconds - ALONE_SECONDS == pytest.approx(wait_seconds, rel=0.06)
    assert found.utilisation == pytest.approx(utilisation, rel=0.02)
    assert found.load == pytest.approx(utilisation)
    assert found.batch_sizes == {1: 1.0}


def places(requests: int) -> int:
    return 1 << (requests - 1).bit_length()


def batch_queue(rate: float, limit: int, most: int = 200) -> tuple[float, float, float]:
    """Solve the Markov chain of the queue's length at the moments at which batches begin.

    Every request that waits goes along, up to the limit; the batch is padded to a power of two.

    Returns:
        The part of the time that the device works, the mean number of requests in a batch, and the
        mean latency, seconds.
    """
    transitions = np.zeros((most, most))  # from n + 1 waiting to m + 1
    services, sizes, empty = np.zeros(most), np.zeros(most), np.zeros(most)
    for waiting in range(1, most + 1):
        row, taken = waiting - 1, min(waiting, limit)
        services[row] = SETUP.cost.seconds(places(taken))
        sizes[row] = taken
        left, expected = waiting - taken, rate * services[row]
        came, chance = 0, math.exp(-expected)
        empty[row] = chance if left == 0 else 0.0
        while left + came <= most:
            # With nobody left, the next batch begins when one has come.
            transitions[row, max(left + came, 1) - 1] += chance
            came += 1
            chance *= expected / came
        transitions[row] /= transitions[row].sum()
    equations = np.vstack([transitions.T - np.eye(most), np.ones(most)])
    chances = np.linalg.lstsq(equations, np.append(np.zeros(most), 1.0), rcond=None)[0]
    cycle_seconds = chances @ services + chances @ empty / rate
    behind = np.arange(1, most + 1) - sizes
    mean_waiting = chances @ (behind * services + rate * services**2 / 2) / cycle_seconds
    own_seconds = chances @ (sizes * services) / (chances @ sizes)
    return (
        float(chances @ services / cycle_seconds),
        float(chances @ sizes),
        float(mean_waiting / rate + own_seconds),
    )


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.1, 0.5, 0.85])
def test_batches_are_those_of_the_queues_markov_chain(load: float) -> None:
    rate = load * SETUP.most_per_second
    found = simulate(SETUP, rate, requests=20_000)
    utilisation, requests_per_batch, mean_seconds = batch_queue(rate, SETUP.batch_limit)
    assert found.utilisation == pytest.approx(utilisation, rel=0.02)
    assert found.requests_per_batch == pytest.approx(requests_per_batch, rel=0.02)
    assert found.mean_seconds == pytest.approx(mean_seconds, rel=0.03)


def test_overloaded_it_answers_what_full_batches_do() -> None:
    setup = replace(SETUP, timeout_seconds=1.0)
    found = simulate(setup, 2 * SETUP.most_per_second, requests=20_000)
    assert found.load == pytest.approx(2.0)
    assert found.utilisation == pytest.approx(1.0)
    assert found.answered_fraction == pytest.approx(0.5, abs=0.03)
    assert found.p99_seconds is not None
    assert found.p99_seconds <= 1.0


def test_who_waits_longer_than_the_timeout_is_not_answered() -> None:
    assert simulate(SETUP, 500.0, requests=4000).answered_fraction == 1.0
    hasty = simulate(replace(SETUP, timeout_seconds=0.009), 500.0, requests=4000)
    assert 0.3 < hasty.answered_fraction < 0.99
    assert hasty.p99_seconds is not None
    assert hasty.p99_seconds <= 0.009
    crowded = simulate(replace(SETUP, max_waiting=1), 500.0, requests=4000)
    assert crowded.answered_fraction < 0.99


def test_a_hopeless_timeout_leaves_nobody_answered() -> None:
    found = simulate(replace(SETUP, timeout_seconds=0.005), 10.0, requests=1000)
    assert found.answered_fraction == 0.0
    assert found.p50_seconds is None
    assert found.p99_seconds is None


def test_what_is_around_queue_and_device_is_added() -> None:
    bare = simulate(SETUP, 300.0, requests=4000)
    whole = simulate(replace(SETUP, overhead_seconds=0.1), 300.0, requests=4000)
    assert bare.p99_seconds is not None
    assert whole.p99_seconds == pytest.approx(bare.p99_seconds + 0.1)


@pytest.mark.slow
def test_one_replica_speaks_for_all_that_share_a_load_by_chance() -> None:
    """Five replicas, each request to any of them, on the virtual clock of the scheduler's tests."""
    rate, replicas, chance = 1500.0, 5, random.Random(7)
    shape = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
    streams: list[list[Arrival]] = [[] for _ in range(replicas)]
    for moment in poisson_arrivals(rate, 20.0, seed=11):
        chance.choice(streams).append(Arrival(moment, shape, timeout=30.0))
    latencies, busy_seconds = [], 0.0
    for stream in streams:
        simulation = Simulation(stream, {shape: (0.005, 0.0005)}, 256, sizes=(1, 2, 4))
        simulation.run_all()
        busy_seconds += sum(launch.ended - launch.started for launch in simulation.batches)
        latencies += [
            launch.ended - request.payload.at
            for launch in simulation.batches
            for request in launch.batch.requests
        ]
    found = simulate(SETUP, rate / replicas, requests=30_000)
    assert found.p50_seconds == pytest.approx(percentile(latencies, 50), rel=0.03)
    assert found.p99_seconds == pytest.approx(percentile(latencies, 99), rel=0.05)
    assert found.utilisation == pytest.approx(busy_seconds / (20.0 * replicas), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [50.0, 250.0, 400.0, 500.0, 560.0, 900.0])
@pytest.mark.parametrize("p99_seconds", [ALONE_SECONDS, 0.012, 0.02])
def test_a_miss_is_seen_early_and_only_where_there_is_one(rate: float, p99_seconds: float) -> None:
    found = simulate(SETUP, rate, requests=4000)
    assert found.p99_seconds is not None
    met = found.p99_seconds <= p99_seconds + 1e-9 and found.answered_fraction >= 0.999
    assert meets(SETUP, rate, Target(p99_seconds, 0.999), requests=4000) is met
