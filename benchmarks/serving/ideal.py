"""A server without overhead on the simulated device: the limit to compare with.

It decodes in order on one core and gives a free device all decoded images. With a decoding time of
zero it is the device's own limit.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serving.curves import CONCURRENCIES
from benchmarks.serving.plan import Plan, Workload, rates_of
from benchmarks.serving.simulated_device import DEVICE_COST, MAX_BATCH_SIZE, DeviceCost
from service.commands.bench.generator import poisson_arrivals
from service.commands.bench.summary import percentile

REQUESTS = 4000
"""Requests of a closed loop, so many that its start weighs less than a thousandth."""


@dataclass(frozen=True)
class Ideal:
    """A server without overhead under one load.

    Attributes:
        workload: size of the images.
        loop: "closed" or "open".
        level: concurrency, or requests a second.
        device_per_second: closed loop, decoding free: the device's own limit.
        per_second: closed loop, decoding on one core.
        p50_seconds: open loop, decoding on one core.
        p99_seconds: open loop, decoding on one core.
    """

    workload: str
    loop: str
    level: float
    device_per_second: float | None = None
    per_second: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None


def ideal_latencies(
    arrivals: Sequence[float], cost: DeviceCost, decode_seconds: float
) -> list[float]:
    """Return the latency of each request, seconds.

    Args:
        arrivals: moments, rising.
        cost: the device's.
        decode_seconds: of one image.
    """
    decoded, core_free = [], 0.0
    for arrival in arrivals:
        core_free = max(core_free, arrival) + decode_seconds
        decoded.append(core_free)
    latencies: list[float] = []
    device_free = 0.0
    while len(latencies) < len(arrivals):
        first = len(latencies)
        start = max(device_free, decoded[first])
        end = min(bisect.bisect_right(decoded, start), first + MAX_BATCH_SIZE)
        device_free = start + cost.seconds(end - first)
        latencies += [device_free - arrival for arrival in arrivals[first:end]]
    return latencies


def ideal_per_second(concurrency: int, cost: DeviceCost, decode_seconds: float) -> float:
    """Return the throughput of a closed loop."""
    arrivals = deque([0.0] * concurrency)
    decoded: deque[float] = deque()
    core_free, device_free, done = 0.0, 0.0, 0
    while done < REQUESTS:
        while arrivals:
            core_free = max(core_free, arrivals.popleft()) + decode_seconds
            decoded.append(core_free)
        start, size = max(device_free, decoded[0]), 0
        while decoded and decoded[0] <= start and size < MAX_BATCH_SIZE:
            decoded.popleft()
            size += 1
        device_free = start + cost.seconds(size)
        arrivals.extend([device_free] * size)
        done += size
    return done / device_free


def compute_ideals(workload: Workload, plan: Plan, decode_seconds: float) -> list[Ideal]:
    """Return the ideal server's results under a plan's loads."""
    closed = [
        Ideal(
            workload.name,
            "closed",
            concurrency,
            device_per_second=ideal_per_second(concurrency, DEVICE_COST, 0.0),
            per_second=ideal_per_second(concurrency, DEVICE_COST, decode_seconds),
        )
        for concurrency in CONCURRENCIES
    ]
    return closed + [
        _ideal_open(workload.name, rate, plan.seconds, decode_seconds)
        for rate in rates_of(workload, plan)
    ]


def _ideal_open(workload: str, rate: float, seconds: float, decode_seconds: float) -> Ideal:
    arrivals = poisson_arrivals(rate, seconds, seed=0)
    latencies = ideal_latencies(arrivals, DEVICE_COST, decode_seconds)
    return Ideal(
        workload,
        "open",
        rate,
        p50_seconds=percentile(latencies, 50),
        p99_seconds=percentile(latencies, 99),
    )
