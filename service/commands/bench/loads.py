"""A load that ``overlock bench`` offers to a service, and its result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.commands.bench.generator import LoadGenerator, Sample, poisson_arrivals
from service.commands.bench.summary import REFUSALS, WARM_UP_SECONDS, outcome_of, percentile


@dataclass(frozen=True)
class ImagePayload:
    """An image for which every result counts as right.

    Attributes:
        body: the file, or several as a tensor.
        media_type: of the request; the service detects the image's format itself.
        answer_start: first bytes of every result.
    """

    body: bytes
    media_type: str = "application/octet-stream"
    answer_start: bytes = b'{"model":'

    def __str__(self) -> str:
        return "a result"

    def is_answered_by(self, answer: bytes) -> bool:
        """Return whether the answer is a result of the service."""
        return answer.startswith(self.answer_start)


@dataclass(frozen=True)
class Load:
    """A load that is offered to a service.

    Attributes:
        loop: "closed" keeps requests under way; "open" sends them at given moments.
        level: requests in flight, or requests per second.
        seconds: duration.
        images: in a request.
    """

    loop: Literal["closed", "open"]
    level: float
    seconds: float
    images: int = 1

    async def offer(self, generator: LoadGenerator) -> list[Sample]:
        """Run the load and return its samples.

        Raises:
            WrongAnswerError: if an answer is no result.
        """
        if self.loop == "closed":
            return await generator.closed_loop(int(self.level), self.seconds)
        return await generator.open_loop(poisson_arrivals(self.level, self.seconds, seed=0))


@dataclass(frozen=True)
class LoadResult:
    """Measurements of a load.

    Attributes:
        loop: the load's.
        level: the load's.
        images: in a request.
        images_per_second: images of the requests answered with status 200 before the load's end.
        offered_per_second: requests that were due.
        answered_per_second: requests answered with status 200 before the load's end.
        p50_seconds: median latency of the requests that were not refused; None if there were none,
            or if too many of them got no answer.
        p90_seconds: 90th percentile of the same.
        p99_seconds: 99th percentile of the same.
        refused_fraction: part of all requests that got status 429 or 503.
        failed_fraction: part of all requests that got any other status than 200, or no answer.
        late_p99_seconds: 99th percentile of the generator's own delay.
    """

    loop: str
    level: float
    images: int
    images_per_second: float
    offered_per_second: float
    answered_per_second: float
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None
    refused_fraction: float
    failed_fraction: float
    late_p99_seconds: float | None


def summarize(load: Load, samples: Sequence[Sample]) -> LoadResult:
    """Summarize a load's samples, without those of its first second."""
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
        images=load.images,
        images_per_second=load.images * outcome.answered_per_second,
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
