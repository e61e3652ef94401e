"""A load that ``overlock bench`` puts a service under, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.commands.bench.generator import LoadGenerator, Sample, poisson_arrivals
from service.commands.bench.summary import REFUSALS, WARM_UP_SECONDS, outcome_of, percentile


@dataclass(frozen=True)
class ImagePayload:
    """An image, of which any result is right.

    Attributes:
        body: the file.
        media_type: what the service is told of it; it looks for itself.
    """

    body: bytes
    media_type: str = "application/octet-stream"

    def __str__(self) -> str:
        return "a result"

    def is_answered_by(self, answer: bytes) -> bool:
        """Return whether the answer is a result of the service."""
        return answer.startswith(b'{"model":')


@dataclass(frozen=True)
class Load:
    """What is offered.

    Attributes:
        loop: "closed" keeps requests under way; "open" sends them at given moments.
        level: requests under way, or requests a second.
        seconds: for how long.
    """

    loop: Literal["closed", "open"]
    level: float
    seconds: float

    async def offer(self, generator: LoadGenerator) -> list[Sample]:
        """Offer it.

        Raises:
            WrongAnswerError: if an answer is no result.
        """
        if self.loop == "closed":
            return await generator.closed_loop(int(self.level), self.seconds)
        return await generator.open_loop(poisson_arrivals(self.level, self.seconds, seed=0))


@dataclass(frozen=True)
class LoadResult:
    """What came of a load.

    Attributes:
        loop: the load's.
        level: the load's.
        offered_per_second: requests that were due.
        answered_per_second: status 200, complete before the load's end.
        p50_seconds: latency of the requests that were not refused; None where so many got no
            answer, or there was none. So for the others.
        p90_seconds: see above.
        p99_seconds: see above.
        refused_fraction: of all requests, those that were told to come later.
        failed_fraction: of all requests, those with another status than 200, or with no answer.
        late_p99_seconds: how late the generator itself sent.
    """

    loop: str
    level: float
    offered_per_second: float
    answered_per_second: float
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None
    refused_fraction: float
    failed_fraction: float
    late_p99_seconds: float | None


def summarize(load: Load, samples: Sequence[Sample]) -> LoadResult:
    """Sum a load's samples up, its first second left out."""
    outcome = outcome_of(samples, load.seconds)
    latencies = [
        sample.latency_seconds
        for sample in samples
        if sample.due_seconds >= WARM_UP_SECONDS and sample.status not in REFUSALS
    ]
    p50, p90, p99 = (_finite(percentile(latencies, percent)) for percent in (50, 90, 99))
    return LoadResult(
        loop=load.loop,
        level=load.level,
        offered_per_second=outcome.offered_per_second,
        answered_per_second=outcome.answered_per_second,
        p50_seconds=p50,
        p90_seconds=p90,
        p99_seconds=p99,
        refused_fraction=outcome.refused_fraction,
        failed_fraction=outcome.failed_fraction,
        late_p99_seconds=_finite(outcome.late_p99_seconds),
    )


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
