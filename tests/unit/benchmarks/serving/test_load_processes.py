from __future__ import annotations

import math

from benchmarks.serving.load_processes import Answers, count
from service.commands.bench.generator import NO_ANSWER, Sample


def sample(due: float, latency: float = 0.5, status: int = 200) -> Sample:
    return Sample(due, due, latency, status)


def test_answers_count_when_they_come_and_failures_when_they_are_sent() -> None:
    # The load began at 100; what happens from 102 to 107 counts.
    samples = [
        sample(1.4),  # answered at 101.9
        sample(1.6),
        sample(6.4),
        sample(6.6),  # answered at 107.1
        sample(1.9, status=429),
        sample(2.0, status=429),
        sample(3.0, status=503),
        sample(4.0, status=500),
        sample(5.0, math.inf, NO_ANSWER),
        sample(7.0, math.inf, NO_ANSWER),
    ]
    assert count(samples, 100.0, 102.0, 107.0) == Answers(answered=2, refused=2, failed=2)
