"""Prometheus metrics, in base units and summed over all processes.

Each process writes its values to files in ``PROMETHEUS_MULTIPROC_DIR``, which the supervisor sets
before it starts the process; any HTTP worker reads them all and answers ``/metrics``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from model.config import Operation

_RESERVED_BYTES = {
    "counter": 2**16,
    "gauge_livemax": 2**16,
    "gauge_livesum": 2**16,
    "histogram": 2**18,
}
"""Bytes reserved for each kind of metrics file, several times what a process uses."""


PROCESS_BYTES = sum(_RESERVED_BYTES.values())
"""Disk space for one process's metrics."""


METRICS_OWNER = "PROMETHEUS_MULTIPROC_OWNER"
"""Variable with the name of the owner of a process's files. A process that replaces another one is
given the same: it goes on with the files, so that restarts and reloads leave none behind."""


# Asked once: prometheus_client wants it for every value that changes.
_OWNER = os.environ.get(METRICS_OWNER) or str(os.getpid())


def reserve_file(folder: Path, kind: str) -> Path:
    """Allocate disk space for one of this process's metrics files, and return its path.

    The files are sparse and mapped into memory: on a full disk, a write to one would kill the
    process. Allocated in advance, they raise an error at the start or never.

    Args:
        folder: of the metrics.
        kind: the metrics' type and mode, as prometheus_client names its files.

    Raises:
        OSError: if there is not enough space.
    """
    path = folder / f"{kind}_{_OWNER}.db"
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, _RESERVED_BYTES[kind])
    return path


if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Its default would name the files by the process's id.
    values.ValueClass = values.MultiProcessValue(lambda: _OWNER)  # type: ignore[no-untyped-call]
    for _kind in _RESERVED_BYTES:
        reserve_file(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), _kind)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter(
    "overlock_requests_total",
    "Requests by route template, or method of gRPC, and status.",
    ["route", "status"],
)
REQUEST_SECONDS = Histogram(
    "overlock_request_duration_seconds",
    "From the request's head to the end of its answer.",
    ["route"],
    buckets=_SECONDS,
)
STAGE_SECONDS = Histogram(
    "overlock_stage_duration_seconds",
    "Time by stage: read, render by request; decode, queue, inference by image; device, "
    "postprocess by batch.",
    ["model", "task", "stage"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "overlock_requests_in_flight", "Requests being worked on.", multiprocess_mode="livesum"
)
CONNECTIONS = Gauge(
    "overlock_connections", "Connections that clients hold open.", multiprocess_mode="livesum"
)
CONNECTIONS_CUT = Counter(
    "overlock_connections_cut_total",
    "Connections closed by the service: by the refusal's slug, or answer-unread (read too slowly), "
    "crowded (waiting for its client for the longest when there were too many).",
    ["reason"],
)
CANCELLED = Counter(
    "overlock_requests_cancelled_total",
    "Requests whose client left, or whose HTTP worker died, during: read, decode, engine, render.",
    ["place"],
)
REJECTED = Counter(
    "overlock_requests_rejected_total", "Requests refused, by the problem's slug.", ["reason"]
)
FAILED = Counter(
    "overlock_requests_failed_total", "Admitted requests that ended with a problem.", ["model"]
)
FAILED_SECONDS = Counter(
    "overlock_requests_failed_seconds_total",
    "Time from the admission of such requests to their end.",
    ["model"],
)
QUEUE_REQUESTS = Gauge(
    "overlock_queue_requests", "Requests waiting for the device.", multiprocess_mode="livesum"
)
PENDING_WORK_SECONDS = Gauge(
    "overlock_pending_work_seconds",
    "Device time that the waiting and running requests need.",
    multiprocess_mode="livesum",
)
HELD_BYTES = Gauge(
    "overlock_held_bytes",
    "Bytes of bodies and network inputs that HTTP workers hold.",
    multiprocess_mode="livesum",
)
BATCHES = Counter(
    "overlock_batches_total",
    "Batches by trigger: free (the device was idle), full (the largest size), closed (a retry).",
    ["model", "task", "trigger"],
)
BATCH_SIZE = Histogram(
    "overlock_batch_size",
    "Requests in a batch, padding left out.",
    ["model", "task"],
    buckets=_BATCH_SIZES,
)
BATCH_PADDING = Counter(
    "overlock_batch_padding_total",
    "Places in batches that held no request.",
    ["model", "task"],
)
DEVICE_SECONDS = Counter(
    "overlock_device_busy_seconds_total", "Time that the device spent on batches.", ["device"]
)
BATCH_FAULTS = Counter(
    "overlock_batch_faults_total",
    "Batches that failed: request, out-of-memory (they are split and tried again), device-lost.",
    ["model", "task", "fault"],
)
OUT_OF_MEMORY = Counter(
    "overlock_out_of_memory_total",
    "Batches that did not fit on the device: split, or refused when nothing was left to split.",
    ["action"],
)
NOT_FINITE = Counter(
    "overlock_outputs_not_finite_total",
    "Requests for which the network's output held NaN or infinity.",
    ["model", "task"],
)
ENGINE_RESTARTS = Counter(
    "overlock_engine_restarts_total", "Engines started to replace one that died."
)
RELOADS = Counter("overlock_reloads_total", "Reloads after which other engines serve.")
RELOAD_FAILURES = Counter(
    "overlock_reload_failures_total",
    "Reloads that failed, so that the engines before them go on serving.",
)
GENERATION = Gauge(
    "overlock_generation",
    "Number of the engines that take new requests; a reload that succeeds adds one.",
    multiprocess_mode="livemax",
)
HTTP_WORKER_RESTARTS = Counter(
    "overlock_http_worker_restarts_total", "HTTP workers started to replace one that died."
)
RECOMPILES = Counter(
    "overlock_recompiles_total",
    "Compilations by torch.compile or Triton after the engine was ready: each makes requests wait.",
)
RERECORDINGS = Counter(
    "overlock_rerecordings_total",
    "CUDA graphs recorded anew while a batch waited: memory does not suffice for all shapes.",
)
GPU_FALLBACKS = Counter(
    "overlock_gpu_fallbacks_total",
    "Models that run in a simpler form since something failed: compile, record, kernels.",
    ["what"],
)
EVENT_LOOP_LAG_SECONDS = Histogram(
    "overlock_event_loop_lag_seconds",
    "Lag of a process's event loop, measured once a second.",
    ["process"],
    buckets=_SECONDS,
)
MODEL_INFO = Gauge(
    "overlock_model_info",
    "1 for each model that is served.",
    ["task", "model", "weights", "device", "dtype"],
    multiprocess_mode="livemax",
)


def start_at_zero(counter: Counter, *label_values: Iterable[str]) -> None:
    """Export a counter at zero before its first event.

    Prometheus sees no increase in a series that begins with 1: an alert would miss the first fault.

    Args:
        counter: with labels.
        label_values: all values of each label, in the order of the labels.
    """
    for each in product(*label_values):
        counter.labels(*each)


@lru_cache(maxsize=256)
def _stage_seconds(operation: Operation, stage: str) -> Histogram:
    return STAGE_SECONDS.labels(*operation, stage)


def observe_stages(operation: Operation, **seconds: float) -> None:
    """Observe the durations of stages, by their names."""
    for stage, duration in seconds.items():
        _stage_seconds(operation, stage).observe(duration)


def observe_failure(model: str, seconds: float) -> None:
    """Count an admitted request that ended with a problem."""
    FAILED.labels(model).inc()
    FAILED_SECONDS.labels(model).inc(seconds)


def samples() -> Iterator[Sample]:
    """Return the present value of every series, summed over all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for metric in registry.collect():
        yield from metric.samples


def exposition() -> bytes:
    """Return the metrics of all processes in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
