from __future__ import annotations

from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service import metrics
from service.processes.counts import SupervisorCounts


def test_counts_are_read_with_the_metrics_of_the_other_processes(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    with closing(SupervisorCounts(tmp_path)) as counts:
        assert registry.get_sample_value("overlock_engine_restarts_total") == 0
        assert registry.get_sample_value("overlock_http_worker_restarts_total") == 0
        counts.increment(metrics.ENGINE_RESTARTS)
        counts.increment(metrics.ENGINE_RESTARTS)
        counts.increment(metrics.HTTP_WORKER_RESTARTS)
    assert registry.get_sample_value("overlock_engine_restarts_total") == 2
    assert registry.get_sample_value("overlock_http_worker_restarts_total") == 1
