"""Overload of a server with twice its capacity, and its recovery."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import uvloop

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.payload import Payload
from benchmarks.serving.running_server import RunningServer
from service.commands.bench.generator import LoadGenerator, Sample, poisson_arrivals
from service.commands.bench.summary import REFUSALS, percentile

DECODING_LIMITS = "5 ms + 0.5 ms n: decoding limits"
"""The device of the overload in which not the device is the limit, in words."""

CALM_SECONDS = 5.0
AFTER_SECONDS = 12.0
CALM_LOAD, OVERLOAD = 0.5, 2.0
"""Offered loads, as shares of the capacity."""

CAPACITY_CONCURRENCY, CAPACITY_SECONDS = 64, 6.0
"""A closed loop's throughput with four full batches in the system."""

SETTLING_SECONDS = 2.0
"""Seconds in which queues and refusals settle; goodput is counted afterwards."""

WINDOW_SECONDS, STEADY_SECONDS = 0.25, 1.0


@dataclass(frozen=True)
class Overload:
    """The result of an overload.

    Attributes:
        contestant: name of the server.
        device: the limiting part, in words.
        capacity_per_second: answers a second in a closed loop, just before.
        goodput_per_second: answers a second during the overload.
        calm_p99_seconds: latency at half the capacity, before.
        accepted_p99_seconds: latency of the requests that were answered with 200.
        refused_fraction: 429 or 503.
        failed_fraction: other statuses, and no answer.
        recovery_seconds: from the overload's end until latencies are as before.
    """

    contestant: str
    device: str
    capacity_per_second: float
    goodput_per_second: float
    calm_p99_seconds: float
    accepted_p99_seconds: float
    refused_fraction: float
    failed_fraction: float
    recovery_seconds: float


def measure_overload(
    contestant: Contestant, payloads: Sequence[Payload], *, device: str, seconds: float, core: int
) -> Overload:
    """Find a server's capacity, then offer half of it, twice, and half again."""
    with RunningServer(contestant, payloads[0], str(core)) as server:
        capacity, samples = uvloop.run(_run(server, payloads, seconds))
    end = CALM_SECONDS + seconds
    calm = [s.latency_seconds for s in samples if s.due_seconds < CALM_SECONDS and s.status == 200]
    during = [sample for sample in samples if CALM_SECONDS <= sample.due_seconds < end]
    accepted = [sample.latency_seconds for sample in during if sample.status == 200]
    refused = sum(sample.status in REFUSALS for sample in during)
    counted_from = CALM_SECONDS + SETTLING_SECONDS
    completed = sum(
        sample.status == 200 and counted_from <= sample.due_seconds + sample.latency_seconds < end
        for sample in samples
    )
    calm_p99_seconds = percentile(calm, 99)
    overload = Overload(
        contestant=contestant.name,
        device=device,
        capacity_per_second=capacity,
        goodput_per_second=completed / (end - counted_from),
        calm_p99_seconds=calm_p99_seconds,
        accepted_p99_seconds=percentile(accepted, 99),
        refused_fraction=refused / len(during),
        failed_fraction=1 - (refused + len(accepted)) / len(during),
        recovery_seconds=recovery_seconds(samples, end, calm_p99_seconds),
    )
    print(overload, file=sys.stderr)
    return overload


def recovery_seconds(samples: Sequence[Sample], end: float, normal_seconds: float) -> float:
    """Return the time from ``end`` to the first ``STEADY_SECONDS`` of normal windows.

    A window is normal if all of its requests were answered and their median latency is not above
    ``normal_seconds``. The last abnormal window would be misleading: at half of its capacity a
    server has bursts that are unrelated to the overload.

    Returns:
        Seconds; ``AFTER_SECONDS`` if the server never becomes normal.
    """
    windows: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.due_seconds >= end:
            place = int((sample.due_seconds - end) / WINDOW_SECONDS)
            windows.setdefault(place, []).append(sample)
    abnormal = {
        place
        for place, window in windows.items()
        if any(sample.status != 200 for sample in window)
        or median(sample.latency_seconds for sample in window) > normal_seconds
    }
    steady = int(STEADY_SECONDS / WINDOW_SECONDS)
    for first in range(int(AFTER_SECONDS / WINDOW_SECONDS) - steady + 1):
        if abnormal.isdisjoint(range(first, first + steady)):
            return first * WINDOW_SECONDS
    return AFTER_SECONDS


async def _run(
    server: RunningServer, payloads: Sequence[Payload], seconds: float
) -> tuple[float, list[Sample]]:
    generator = LoadGenerator(server.target, payloads)
    closed = await generator.closed_loop(CAPACITY_CONCURRENCY, CAPACITY_SECONDS)
    done = [
        sample
        for sample in closed
        if sample.status == 200
        and 1.0 <= sample.due_seconds + sample.latency_seconds < CAPACITY_SECONDS
    ]
    capacity = len(done) / (CAPACITY_SECONDS - 1.0)
    phases = ((CALM_LOAD, CALM_SECONDS), (OVERLOAD, seconds), (CALM_LOAD, AFTER_SECONDS))
    arrivals, start = [], 0.0
    for seed, (load, length) in enumerate(phases):
        moments = poisson_arrivals(load * capacity, length, seed)
        arrivals += [start + moment for moment in moments]
        start += length
    return capacity, await generator.open_loop(arrivals)
