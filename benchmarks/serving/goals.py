"""The goals, each with its measurement: met or missed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.serving.curves import JUDGED_CONCURRENCY, JUDGED_RATE
from benchmarks.serving.footprint import Idleness, Memory
from benchmarks.serving.overload import DECODING_LIMITS, Overload
from benchmarks.serving.real_network import RealNetwork
from benchmarks.serving.results import AloneResults, Results

OURS, RIVAL = "overlock-service", "Mosec"
IDLE_CORE_FRACTION = 0.02
HTTP_WORKER_BYTES = 150_000_000
REAL_NETWORK_FRACTION = 0.97
RECOVERY_SECONDS = 2.0
GOODPUT_FRACTION = 0.95
"""Minimum goodput as a share of the capacity, which is known to a few percent: it is measured for
six seconds."""

DECODING_GOODPUT_FRACTION = 0.9
"""The same where the core that decodes also rejects what is too much."""

P50_RATIO, P99_RATIO = 0.6, 0.7
"""Latencies at ``JUDGED_RATE``, over the rival's."""

Comparison = Callable[[float, float], bool]


@dataclass(frozen=True)
class WorkloadBounds:
    """The bounds of a workload's goals, in the closed loop.

    Attributes:
        throughput_ratio: least throughput, over the rival's.
        cpu_seconds: most processor time of an answer, all processes together.
    """

    throughput_ratio: float
    cpu_seconds: float


BOUNDS = {
    "640x480": WorkloadBounds(throughput_ratio=1.0, cpu_seconds=0.0019),
    "313x235": WorkloadBounds(throughput_ratio=1.25, cpu_seconds=0.0009),
}
"""By the names of the workloads."""


@dataclass(frozen=True)
class Goal:
    """A goal with its measurement.

    Attributes:
        what: the compared quantity.
        target: the bound, in words.
        measured: in words.
        met: whether it holds.
    """

    what: str
    target: str
    measured: str
    met: bool


def judge(results: Results, overload_timeout_seconds: float) -> list[Goal]:
    """Judge every goal by the medians of a run."""
    return [
        *(goal for name in results.decode_seconds for goal in _against_rival(results, name)),
        *judge_alone(results, overload_timeout_seconds),
    ]


def judge_alone(results: AloneResults, overload_timeout_seconds: float) -> list[Goal]:
    """Judge the goals that need no peer."""
    memory = [] if results.memory is None else [_memory(results.memory)]
    return [
        *(_real_network(each) for each in results.real_networks),
        *(_idle(each) for each in results.idleness if each.contestant.startswith(OURS)),
        *memory,
        *(
            goal
            for each in results.overloads
            if each.contestant == OURS
            for goal in _overload(each, overload_timeout_seconds)
        ),
    ]


def _real_network(each: RealNetwork) -> Goal:
    name = f"{each.model}, {each.placement}: HTTP / bare engine"
    return goal_of(name, (">=", REAL_NETWORK_FRACTION, "{:.1%}"), each.fraction)


def _memory(memory: Memory) -> Goal:
    target = ("<", HTTP_WORKER_BYTES / 1e6, "{:.0f}")
    return goal_of("HTTP worker, MB", target, memory.http_worker_bytes / 1e6)


def _idle(each: Idleness) -> Goal:
    target = ("<", IDLE_CORE_FRACTION, "{:.2%}")
    return goal_of(f"idle, {each.contestant}", target, each.core_fraction)


def _overload(each: Overload, timeout_seconds: float) -> list[Goal]:
    name = f"overload, {each.device}"
    goodput = each.goodput_per_second / each.capacity_per_second
    p99_seconds = each.accepted_p99_seconds
    decoding_limits = each.device == DECODING_LIMITS
    least = DECODING_GOODPUT_FRACTION if decoding_limits else GOODPUT_FRACTION
    failed = goal_of(f"{name}: failed", ("<=", 0.0, "{:.1%}"), each.failed_fraction)
    return [
        goal_of(f"{name}: goodput / capacity", (">=", least, "{:.2f}"), goodput),
        *([failed] if decoding_limits else []),
        goal_of(f"{name}: p99 of the accepted, s", ("<=", timeout_seconds, "{:.2f}"), p99_seconds),
        goal_of(f"{name}: recovery, s", ("<=", RECOVERY_SECONDS, "{:.2f}"), each.recovery_seconds),
    ]


def _against_rival(results: Results, workload: str) -> list[Goal]:
    closed = [
        results.outcome(name, workload, "closed", JUDGED_CONCURRENCY) for name in (OURS, RIVAL)
    ]
    opened = [results.outcome(name, workload, "open", JUDGED_RATE) for name in (OURS, RIVAL)]
    cpu_seconds = results.cpu_seconds(OURS, workload, "closed", JUDGED_CONCURRENCY)
    bounds, load = BOUNDS[workload], f"{workload}, closed c={JUDGED_CONCURRENCY}"
    goals = []
    if closed[0] and closed[1]:
        ratio = closed[0].answered_per_second / closed[1].answered_per_second
        target = (">=", bounds.throughput_ratio, "{:.2f}")
        goals.append(goal_of(f"{load}: throughput / {RIVAL}", target, ratio))
    if cpu_seconds is not None:
        target = ("<=", 1e3 * bounds.cpu_seconds, "{:.2f}")
        goals.append(goal_of(f"{load}: CPU of an answer, ms", target, 1e3 * cpu_seconds))
    if opened[0] and opened[1]:
        rate = f"{workload}, open {JUDGED_RATE:g}/s"
        goals += [
            goal_of(
                f"{rate}: p50 / {RIVAL}",
                ("<=", P50_RATIO, "{:.2f}"),
                _ratio(opened[0].p50_seconds, opened[1].p50_seconds),
            ),
            goal_of(
                f"{rate}: p99 / {RIVAL}",
                ("<=", P99_RATIO, "{:.2f}"),
                _ratio(opened[0].p99_seconds, opened[1].p99_seconds),
            ),
        ]
    return goals


def _ratio(ours: float, rival: float) -> float:
    """Return ours / rival; infinite, so that no goal is met, if ours never answered."""
    return math.inf if math.isinf(ours) else ours / rival


def goal_of(what: str, target: tuple[str, float, str], measured: float) -> Goal:
    """Judge a number.

    Args:
        what: it is.
        target: comparison, bound and format.
        measured: the number.
    """
    sign, bound, form = target
    comparisons: dict[str, Comparison] = {
        "<": operator.lt,
        "<=": operator.le,
        ">=": operator.ge,
    }
    return Goal(
        what=what,
        target=f"{sign} {form.format(bound)}",
        measured=form.format(measured),
        met=comparisons[sign](measured, bound),
    )
