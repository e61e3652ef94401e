"""Statistics of models in Triton's form, from the metrics of all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client.samples import Sample

from service.link.messages import ModelInfo
from service.web.v2.documents import (
    Duration,
    InferenceStatistics,
    ModelStatistics,
    StatisticsDocument,
)
from service.web.v2.inference import version_of

NS_PER_SECOND = 10**9

_STAGES = "overlock_stage_duration_seconds"


def statistics_of(models: Sequence[ModelInfo], samples: Iterable[Sample]) -> StatisticsDocument:
    """Count what models have done since the service started, over all of its processes.

    An image counts once for each of its answers; a call that fails counts once.

    Args:
        models: to be listed.
        samples: the metrics.
    """
    totals = _totals(samples)
    return StatisticsDocument(model_stats=[_statistics(model, totals) for model in models])


def _totals(samples: Iterable[Sample]) -> Counter[tuple[str, str, str]]:
    """Sum the metrics over tasks, by name, model and stage."""
    totals: Counter[tuple[str, str, str]] = Counter()
    for sample in samples:
        if "model" in sample.labels and "le" not in sample.labels:
            key = sample.name, sample.labels["model"], sample.labels.get("stage", "")
            # A counter of float values: mypy knows it as one of ints.
            totals[key] += sample.value  # type: ignore[assignment]
    return totals


def _statistics(model: ModelInfo, totals: Counter[tuple[str, str, str]]) -> ModelStatistics:
    name = model.name

    def stage(*stages: str) -> Duration:
        """Return the count of the first stage, and the time of all."""
        seconds = sum(totals[f"{_STAGES}_sum", name, each] for each in stages)
        count = int(totals[f"{_STAGES}_count", name, stages[0]])
        return Duration(count=count, ns=round(seconds * NS_PER_SECOND))

    failed = totals["overlock_requests_failed_total", name, ""]
    failed_seconds = totals["overlock_requests_failed_seconds_total", name, ""]
    success = stage("inference", "decode", "queue", "render")
    none = Duration(count=0, ns=0)
    return ModelStatistics(
        name=name,
        version=version_of(model),
        last_inference=0,
        inference_count=success.count,
        execution_count=int(totals["overlock_batches_total", name, ""]),
        inference_stats=InferenceStatistics(
            success=success,
            fail=Duration(count=int(failed), ns=round(failed_seconds * NS_PER_SECOND)),
            queue=stage("queue"),
            compute_input=stage("decode"),
            compute_infer=stage("inference"),
            compute_output=stage("render"),
            cache_hit=none,
            cache_miss=none,
        ),
        batch_stats=[],
    )
