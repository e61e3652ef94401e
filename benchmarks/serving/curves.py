"""Measurements of every contestant under the same loads: closed loops, then rising open rates."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import uvloop

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.payload import Payload
from benchmarks.serving.processes import core_busy_seconds, cpu_seconds
from benchmarks.serving.running_server import RunningServer
from service.commands.bench.generator import LoadGenerator, poisson_arrivals
from service.commands.bench.summary import RequestOutcome, outcome_of

JUDGED_CONCURRENCY = 32
"""The closed loop's concurrency of the goals."""

CONCURRENCIES = (1, JUDGED_CONCURRENCY)
JUDGED_RATE = 300.0
"""The open loop's rate of the goals; always measured, also after lower rates were hopeless."""

HOPELESS = 0.7
"""Minimum answered share of an open loop's requests; below it, higher rates are skipped."""


@dataclass(frozen=True)
class Measurement:
    """One contestant under one load, once.

    Attributes:
        contestant: its name.
        workload: size of the images, "WIDTHxHEIGHT".
        repeat: from 0.
        loop: "closed" or "open".
        level: concurrency, or requests a second.
        outcome: rates and latencies.
        cpu_seconds_per_answer: processor time of all its processes.
        foreign_core_fraction: share of the time that the server's core worked for other processes.
    """

    contestant: str
    workload: str
    repeat: int
    loop: Literal["closed", "open"]
    level: float
    outcome: RequestOutcome
    cpu_seconds_per_answer: float
    foreign_core_fraction: float


@dataclass(frozen=True)
class Turn:
    """One contestant's turn.

    Attributes:
        contestant: that is measured.
        payloads: that are sent.
        workload: their size, for the results.
        repeat: number of earlier turns.
        rates: of the open loop, rising.
        seconds: of one load.
        core: of the server.
        concurrencies: of the closed loops, rising.
    """

    contestant: Contestant
    payloads: Sequence[Payload]
    workload: str
    repeat: int
    rates: Sequence[float]
    seconds: float
    core: int
    concurrencies: Sequence[int] = CONCURRENCIES


def measure_turn(turn: Turn) -> list[Measurement]:
    """Start a contestant and put it under every load, the lightest first."""
    with RunningServer(turn.contestant, turn.payloads[0], str(turn.core)) as server:
        return uvloop.run(_measure_all(server, turn))


async def _measure_all(server: RunningServer, turn: Turn) -> list[Measurement]:
    measurements = [
        await _measure(server, turn, "closed", concurrency) for concurrency in turn.concurrencies
    ]
    hopeless = False
    for rate in turn.rates:
        if hopeless and rate != JUDGED_RATE:
            continue
        measured = await _measure(server, turn, "open", rate)
        measurements.append(measured)
        outcome = measured.outcome
        hopeless |= outcome.answered_per_second < HOPELESS * outcome.offered_per_second
    return measurements


async def _measure(
    server: RunningServer, turn: Turn, loop: Literal["closed", "open"], level: float
) -> Measurement:
    generator = LoadGenerator(server.target, turn.payloads)
    cpu_before, busy_before = cpu_seconds(server.family), core_busy_seconds(turn.core)
    started = time.perf_counter()
    if loop == "closed":
        samples = await generator.closed_loop(int(level), turn.seconds)
    else:
        # The same moments for every contestant, different in every repeat.
        arrivals = poisson_arrivals(level, turn.seconds, turn.repeat)
        samples = await generator.open_loop(arrivals)
    elapsed_seconds = time.perf_counter() - started
    own_seconds = cpu_seconds(server.family) - cpu_before
    foreign_seconds = core_busy_seconds(turn.core) - busy_before - own_seconds
    answers = sum(sample.status == 200 for sample in samples)
    measurement = Measurement(
        contestant=turn.contestant.name,
        workload=turn.workload,
        repeat=turn.repeat,
        loop=loop,
        level=level,
        outcome=outcome_of(samples, turn.seconds),
        cpu_seconds_per_answer=own_seconds / max(answers, 1),
        # Limited, since the core's time is counted in ticks and the processes' is not.
        foreign_core_fraction=min(max(foreign_seconds / elapsed_seconds, 0.0), 1.0),
    )
    print(_line(measurement), file=sys.stderr)
    return measurement


def _line(measured: Measurement) -> str:
    outcome = measured.outcome
    return (
        f"{measured.workload} {measured.contestant}, {measured.loop} {measured.level:g}: "
        f"{outcome.answered_per_second:.0f}/s, p50 {1e3 * outcome.p50_seconds:.1f} ms, "
        f"p99 {1e3 * outcome.p99_seconds:.1f} ms, refused {outcome.refused_fraction:.1%}, "
        f"failed {outcome.failed_fraction:.1%}, "
        f"CPU {1e3 * measured.cpu_seconds_per_answer:.2f} ms, "
        f"others {measured.foreign_core_fraction:.0%}"
    )
