from __future__ import annotations

import math

from service.commands.bench.generator import NO_ANSWER, Sample
from service.commands.bench.loads import Load, summarize

LOAD = Load("open", 10, seconds=3.0)


def sample(due: float, latency: float, status: int = 200) -> Sample:
    return Sample(due, due, latency, status)


def test_the_first_second_and_refusals_are_no_latencies() -> None:
    samples = [sample(0.5, 9.0), sample(1.5, 0.1), sample(1.6, 0.2), sample(1.7, 0.001, 429)]
    measured = summarize(LOAD, samples)
    assert (measured.p50_seconds, measured.p99_seconds) == (0.1, 0.2)
    assert measured.refused_fraction == 1 / 3
    assert measured.failed_fraction == 0


def test_percentiles_in_order() -> None:
    measured = summarize(LOAD, [sample(1 + number / 100, number / 100) for number in range(1, 101)])
    assert (measured.p50_seconds, measured.p90_seconds, measured.p99_seconds) == (0.5, 0.9, 0.99)


def test_a_request_without_an_answer_counts_as_infinite() -> None:
    measured = summarize(LOAD, [sample(1.5, 0.1), sample(1.6, math.inf, NO_ANSWER)])
    assert (measured.p50_seconds, measured.p90_seconds) == (0.1, None)
    assert measured.failed_fraction == 0.5


def test_a_load_without_any_sample_has_no_latency() -> None:
    assert summarize(LOAD, []).p50_seconds is None


def test_a_request_counts_with_all_of_its_images() -> None:
    load = Load("closed", 1, seconds=3.0, images=16)
    measured = summarize(load, [sample(1.5, 0.1), sample(1.6, 0.1), sample(1.7, 0.1, 503)])
    assert measured.answered_per_second == 1.0
    assert (measured.images, measured.images_per_second) == (16, 16.0)
