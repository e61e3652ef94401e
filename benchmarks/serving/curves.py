"""Every contestant under the same loads: two closed loops, then the open loop at rising rates."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import uvloop

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.load import LoadGenerator, Sample, poisson_arrivals
from benchmarks.serving.outcome import Outcome, outcome_of
from benchmarks.serving.payload import Payload
from benchmarks.serving.processes import cpu_seconds
from benchmarks.serving.running_server import RunningServer

CONCURRENCIES = (1, 32)
JUDGED_RATE = 300.0
"""The open loop's rate that goals speak of; measured whatever came before."""

HOPELESS = 0.7
"""A server that answers less of an open loop's requests is not asked for more of them."""


@dataclass(frozen=True)
class Measurement:
    """One contestant under one load, once.

    Attributes:
        contestant: its name.
        workload: size of the images, "WIDTHxHEIGHT".
        repeat: from 0.
        loop: "closed" or "open".
        level: concurrency, or requests a second.
        outcome: what came of it.
        cpu_seconds_per_answer: processor time of all its processes.
    """

    contestant: str
    workload: str
    repeat: int
    loop: Literal["closed", "open"]
    level: float
    outcome: Outcome
    cpu_seconds_per_answer: float


def measure_curve(
    contestant: Contestant,
    payloads: Sequence[Payload],
    *,
    workload: str,
    repeat: int,
    rates: Sequence[float],
    seconds: float,
    core: str,
) -> list[Measurement]:
    """Start a contestant and put it under every load, the lightest first."""
    with RunningServer(contestant, payloads[0], core) as server:
        return uvloop.run(_measure(server, contestant, payloads, workload, repeat, rates, seconds))


async def _measure(
    server: RunningServer,
    contestant: Contestant,
    payloads: Sequence[Payload],
    workload: str,
    repeat: int,
    rates: Sequence[float],
    seconds: float,
) -> list[Measurement]:
    measurements: list[Measurement] = []
    hopeless = False
    for loop, level in [*(("closed", c) for c in CONCURRENCIES), *(("open", r) for r in rates)]:
        if hopeless and level != JUDGED_RATE:
            continue
        generator = LoadGenerator(server.port, contestant.path, payloads)
        before = cpu_seconds(server.family)
        samples: list[Sample]
        if loop == "closed":
            samples = await generator.closed_loop(int(level), seconds)
        else:
            # The same moments for every contestant, others in every repeat.
            samples = await generator.open_loop(poisson_arrivals(level, seconds, repeat))
        answers = sum(sample.status == 200 for sample in samples)
        outcome = outcome_of(samples, seconds)
        measurements.append(
            Measurement(
                contestant=contestant.name,
                workload=workload,
                repeat=repeat,
                loop="closed" if loop == "closed" else "open",
                level=level,
                outcome=outcome,
                cpu_seconds_per_answer=(cpu_seconds(server.family) - before) / max(answers, 1),
            )
        )
        print(_line(measurements[-1]), file=sys.stderr)
        hopeless = hopeless or (
            loop == "open" and outcome.answered_per_second < HOPELESS * outcome.offered_per_second
        )
    return measurements


def _line(measured: Measurement) -> str:
    outcome = measured.outcome
    return (
        f"{measured.workload} {measured.contestant}, {measured.loop} {measured.level:g}: "
        f"{outcome.answered_per_second:.0f}/s, p50 {1e3 * outcome.p50_seconds:.1f} ms, "
        f"p99 {1e3 * outcome.p99_seconds:.1f} ms, refused {outcome.refused_fraction:.1%}, "
        f"failed {outcome.failed_fraction:.1%}, "
        f"CPU {1e3 * measured.cpu_seconds_per_answer:.2f} ms"
    )
