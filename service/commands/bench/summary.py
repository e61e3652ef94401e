"""Summary statistics of a run of the load generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from service.commands.bench.generator import NO_ANSWER, Sample

REFUSALS = frozenset({429, 503})
"""Statuses of requests that a busy service refuses."""

WARM_UP_SECONDS = 1.0
"""Requests due before this are sent but not counted: meanwhile connections open and queues fill."""


@dataclass(frozen=True)
class RequestOutcome:
    """One run, or the medians of several.

    Attributes:
        offered_per_second: requests that were due.
        answered_per_second: requests answered with status 200 before the run's end.
        p50_seconds: median latency of the accepted requests; infinite if half got no answer.
        p99_seconds: 99th percentile of the same.
        refused_fraction: part of all requests that got status 429 or 503.
        failed_fraction: part of all requests that got any other status than 200, or no answer.
        late_p99_seconds: 99th percentile of the generator's own delay; more than a millisecond
            means that it is too slow.
    """

    offered_per_second: float
    answered_per_second: float
    p50_seconds: float
    p99_seconds: float
    refused_fraction: float
    failed_fraction: float
    late_p99_seconds: float


def outcome_of(
    samples: Sequence[Sample], seconds: float, *, warm_up_seconds: float = WARM_UP_SECONDS
) -> RequestOutcome:
    """Summarize a run.

    Args:
        samples: of the whole run.
        seconds: its length.
        warm_up_seconds: time at the start that is not counted.
    """
    counted = [sample for sample in samples if sample.due_seconds >= warm_up_seconds]
    window_seconds = seconds - warm_up_seconds
    # Completions, not arrivals: a server that answers late has not answered more.
    completed = sum(
        sample.status == 200
        and warm_up_seconds <= sample.due_seconds + sample.latency_seconds < seconds
        for sample in samples
    )
    accepted = [sample.latency_seconds for sample in counted if sample.status in {200, NO_ANSWER}]
    refused = sum(sample.status in REFUSALS for sample in counted)
    failed = sum(sample.status != 200 and sample.status not in REFUSALS for sample in counted)
    return RequestOutcome(
        offered_per_second=len(counted) / window_seconds,
        answered_per_second=completed / window_seconds,
        p50_seconds=percentile(accepted, 50),
        p99_seconds=percentile(accepted, 99),
        refused_fraction=refused / max(len(counted), 1),
        failed_fraction=failed / max(len(counted), 1),
        late_p99_seconds=percentile([s.sent_seconds - s.due_seconds for s in counted], 99),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile without interpolation; infinite if there are no values."""
    if not values:
        return float("inf")
    return float(np.percentile(values, percent, method="inverted_cdf"))


def medians(outcomes: Sequence[RequestOutcome]) -> RequestOutcome:
    """Return the median of each number over repeats."""
    return RequestOutcome(
        **{
            name: median(getattr(outcome, name) for outcome in outcomes)
            for name in RequestOutcome.__dataclass_fields__
        }
    )
