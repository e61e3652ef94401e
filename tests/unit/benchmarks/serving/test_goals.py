"""The goals of a run against the peers: which number is held against which bound."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.serving.curves import JUDGED_CONCURRENCY, JUDGED_RATE, Measurement
from benchmarks.serving.goals import BOUNDS, OURS, RIVAL, judge
from benchmarks.serving.overload import DECODING_LIMITS, Overload
from benchmarks.serving.plan import WORKLOADS
from benchmarks.serving.results import Results
from service.commands.bench.summary import outcome_of

OVERLOAD = Overload(
    contestant=OURS,
    device=DECODING_LIMITS,
    capacity_per_second=400.0,
    goodput_per_second=360.0,
    calm_p99_seconds=0.03,
    accepted_p99_seconds=0.9,
    refused_fraction=0.5,
    failed_fraction=0.0,
    recovery_seconds=1.0,
)


def measurement(contestant: str, workload: str, loop: str, **numbers: float) -> Measurement:
    """Make a measurement of a contestant, with the given numbers of its outcome."""
    cpu_seconds = numbers.pop("cpu_seconds", 0.0)
    outcome = dataclasses.replace(outcome_of([], 4.0), **numbers)
    level = JUDGED_CONCURRENCY if loop == "closed" else JUDGED_RATE
    assert loop in {"closed", "open"}
    return Measurement(contestant, workload, 0, loop, level, outcome, cpu_seconds, 0.0)  # type: ignore[arg-type]


def results(curves: list[Measurement], overloads: list[Overload]) -> Results:
    """Return the results of a run with these parts alone."""
    return Results(
        command="a command",
        machine={},
        idleness=[],
        memory=None,
        overloads=overloads,
        real_networks=[],
        notes={},
        payload_bytes={},
        decode_seconds={workload.name: 0.001 for workload in WORKLOADS},
        generator=[],
        curves=curves,
        ideals=[],
        failures=[],
    )


def test_every_workload_has_bounds() -> None:
    assert set(BOUNDS) == {workload.name for workload in WORKLOADS}


@pytest.mark.parametrize(("workload", "least", "most_ms"), [
    ("640x480", "1.00", "1.90"), ("313x235", "1.25", "0.90"),
])  # fmt: skip
def test_a_closed_loop_is_judged_by_the_rival_and_by_processor_time(
    workload: str, least: str, most_ms: str
) -> None:
    ratio = float(least)
    ours = {"answered_per_second": 100.0 * ratio, "cpu_seconds": 1e-3 * float(most_ms) + 1e-4}
    curves = [
        measurement(OURS, workload, "closed", **ours),
        measurement(RIVAL, workload, "closed", answered_per_second=100.0, cpu_seconds=9.0),
    ]
    throughput, cpu = judge(results(curves, []), 1.0)
    assert (throughput.target, throughput.met) == (f">= {least}", True)
    assert (cpu.target, cpu.met) == (f"<= {most_ms}", False)


def test_latencies_are_judged_by_the_rivals_at_the_same_rate() -> None:
    curves = [
        measurement(OURS, "640x480", "open", p50_seconds=0.006, p99_seconds=0.0071),
        measurement(RIVAL, "640x480", "open", p50_seconds=0.010, p99_seconds=0.0100),
    ]
    judged = [(goal.target, goal.measured, goal.met) for goal in judge(results(curves, []), 1.0)]
    assert judged == [("<= 0.60", "0.60", True), ("<= 0.70", "0.71", False)]


def test_a_latency_without_an_answer_meets_no_goal() -> None:
    never = float("inf")
    curves = [
        measurement(OURS, "640x480", "open", p50_seconds=never, p99_seconds=never),
        measurement(RIVAL, "640x480", "open", p50_seconds=0.010, p99_seconds=never),
    ]
    assert not any(goal.met for goal in judge(results(curves, []), 1.0))


def test_where_decoding_limits_less_goodput_suffices_and_nothing_may_fail() -> None:
    goals = {goal.what: goal for goal in judge(results([], [OVERLOAD]), 1.0)}
    assert all(goal.met for goal in goals.values())
    failing = dataclasses.replace(OVERLOAD, failed_fraction=0.001)
    failed = {goal.what for goal in judge(results([], [failing]), 1.0) if not goal.met}
    assert failed == {f"overload, {DECODING_LIMITS}: failed"}


def test_where_the_device_limits_more_goodput_is_asked_for() -> None:
    slow = dataclasses.replace(OVERLOAD, device="a slow device")
    missed = {goal.what for goal in judge(results([], [slow]), 1.0) if not goal.met}
    assert missed == {"overload, a slow device: goodput / capacity"}
