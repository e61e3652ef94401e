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
from service.web.v2.inference import version_number_of

NS_PER_SECOND = 10**9

_STAGES = "overlock_stage_duration_seconds"


def statistics_of(models: Sequence[ModelInfo], samples: Iterable[Sample]) -> StatisticsDocument:
    """Count what models have done since the service started, over all of its processes.

    A call counts once, whether it is answered or fails; ``inference_count`` counts an image once
    for each question about it: one for the task's own outputs, one for its embedding.

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

    # perf_analyzer ends with an exception unless all stages have one count.
    answered = int(totals[f"{_STAGES}_count", name, "render"])

    def stage(*stages: str) -> Duration:
        seconds = sum(totals[f"{_STAGES}_sum", name, each] for each in stages)
        return Duration(count=answered, ns=round(seconds * NS_PER_SECOND))

    failed = totals["overlock_requests_failed_total", name, ""]
    failed_seconds = totals["overlock_requests_failed_seconds_total", name, ""]
    none = Duration(count=0, ns=0)
    return ModelStatistics(
        name=name,
        version=version_number_of(model),
        last_inference=0,
        inference_count=int(totals[f"{_STAGES}_count", name, "inference"]),
        execution_count=int(totals["overlock_batches_total", name, ""]),
        inference_stats=InferenceStatistics(
            success=stage("decode", "queue", "inference", "render"),
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
