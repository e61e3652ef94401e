from __future__ import annotations

import math

import pytest

from service.commands.bench.generator import NO_ANSWER, Sample
from service.commands.bench.summary import medians, outcome_of, percentile


def sample(due: float, latency: float, status: int = 200) -> Sample:
    return Sample(due, due + 0.001, latency, status)


def test_the_warm_up_is_not_counted() -> None:
    outcome = outcome_of([sample(0.5, 9.0), sample(1.5, 0.1)], 3.0, warm_up_seconds=1.0)
    assert outcome.p99_seconds == pytest.approx(0.1)
    assert outcome.offered_per_second == pytest.approx(0.5)


def test_an_answer_after_the_end_is_late_but_not_answered_within_the_run() -> None:
    outcome = outcome_of([sample(1.0, 0.5), sample(1.5, 4.0)], 3.0, warm_up_seconds=1.0)
    assert outcome.answered_per_second == pytest.approx(0.5)
    assert outcome.p99_seconds == pytest.approx(4.0)


def test_who_got_no_answer_waited_for_ever_and_has_failed() -> None:
    samples = [sample(1.0, 0.1), sample(1.1, math.inf, NO_ANSWER)]
    outcome = outcome_of(samples, 2.0, warm_up_seconds=0.0)
    assert outcome.p50_seconds == pytest.approx(0.1)
    assert math.isinf(outcome.p99_seconds)
    assert outcome.failed_fraction == pytest.approx(0.5)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_no_failure_and_has_no_latency(status: int) -> None:
    samples = [sample(1.0, 0.1), sample(1.1, 0.001, status)]
    outcome = outcome_of(samples, 2.0, warm_up_seconds=0.0)
    assert outcome.refused_fraction == pytest.approx(0.5)
    assert outcome.failed_fraction == 0.0
    assert outcome.p50_seconds == pytest.approx(0.1)


def test_percentile_is_a_value_that_occurred() -> None:
    assert percentile([1.0, 2.0, 3.0, 100.0], 50) == 2.0
    assert percentile([1.0, 2.0, 3.0, 100.0], 99) == 100.0
    assert math.isinf(percentile([], 50))


def test_medians_are_taken_number_by_number() -> None:
    repeats = [
        outcome_of([sample(0.0, latency)], 1.0, warm_up_seconds=0.0) for latency in (0.3, 0.1, 0.2)
    ]
    assert medians(repeats).p50_seconds == pytest.approx(0.2)
