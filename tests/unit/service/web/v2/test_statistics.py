from __future__ import annotations

import msgspec
import pytest
from prometheus_client.samples import Sample

from service.web.v2.statistics import statistics_of
from support.service_fakes import CLASSIFIER, SEGMENTER


def stage(stage: str, count: float, seconds: float, *, task: str = "classify") -> list[Sample]:
    name, labels = "overlock_stage_duration_seconds", {"model": "demo", "task": task}
    return [
        Sample(f"{name}_count", labels | {"stage": stage}, count),
        Sample(f"{name}_sum", labels | {"stage": stage}, seconds),
        Sample(f"{name}_bucket", labels | {"stage": stage, "le": "1"}, 99),
    ]


def test_statistics_are_those_of_the_metrics_over_all_tasks() -> None:
    samples = [
        *stage("decode", 3, 0.5),
        *stage("decode", 1, 0.25, task="embed"),
        *stage("queue", 4, 1.0),
        *stage("inference", 4, 2.0),
        *stage("render", 2, 0.125),
        Sample("overlock_batches_total", {"model": "demo", "task": "classify"}, 2),
        Sample("overlock_batches_total", {"model": "demo", "task": "embed"}, 1),
        Sample("overlock_requests_failed_total", {"model": "demo"}, 5),
        Sample("overlock_requests_failed_seconds_total", {"model": "demo"}, 0.5),
        Sample("overlock_queue_requests", {}, 7),
    ]
    found, other = statistics_of([CLASSIFIER, SEGMENTER], samples).model_stats
    assert (found.name, found.inference_count, found.execution_count) == ("demo", 4, 3)
    stats = found.inference_stats
    assert (stats.success.count, stats.success.ns) == (2, 3_875_000_000)
    assert (stats.fail.count, stats.fail.ns) == (5, 500_000_000)
    assert (stats.queue.count, stats.queue.ns) == (2, 1_000_000_000)
    assert (stats.compute_input.count, stats.compute_input.ns) == (2, 750_000_000)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (2, 2_000_000_000)
    assert (stats.compute_output.count, stats.compute_output.ns) == (2, 125_000_000)
    assert other.inference_count == 0


@pytest.mark.parametrize(
    ("digest", "number"), [("ab" * 32, "188753807911851"), (None, "0"), ("0" * 64, "0")]
)
def test_the_version_is_a_number_as_perf_analyzer_reads_it(digest: str | None, number: str) -> None:
    (found,) = statistics_of(
        [msgspec.structs.replace(CLASSIFIER, weights_sha256=digest)], []
    ).model_stats
    assert found.version == number
