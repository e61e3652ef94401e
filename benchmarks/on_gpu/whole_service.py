"""Saturate the service on the device, and run the bare engine with batches of the same size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.on_gpu.bench import CACHES, Bench, Row, stopwatch
from benchmarks.on_gpu.networks import noise_images
from benchmarks.on_gpu.saturation import Snapshot, usage_between, what_saturates
from benchmarks.on_gpu.served import BATCHES, QUICK_BATCHES, model_of, serving
from benchmarks.serving.contestants import Contestant, ours_real
from benchmarks.serving.footprint import ENGINE, HTTP_WORKER
from benchmarks.serving.load_processes import LoadProcesses
from benchmarks.serving.payload import draw_payloads
from benchmarks.serving.processes import (
    core_busy_seconds,
    cpu_seconds,
    members_running,
    thread_seconds,
)
from benchmarks.serving.running_server import RunningServer
from benchmarks.serving.scrape import get, sum_of
from service.web.pipeline.threads import THREADS as DECODING_THREADS

MAX_BATCH_SIZE = 64
"""The engine's; ``benchmarks.on_gpu.served`` prepares a bare one for it too."""

BATCHES_UNDER_WAY = 4
"""One batch on the device, one that waits for it, and two being sent, decoded and answered."""

SPARE_CORES = 4
"""Cores for the engine and the load generators; the HTTP workers get the others."""

SMALL, LARGE = (224, 224), (640, 480)
"""Widths and heights of the JPEG files."""


@dataclass(frozen=True)
class Plan:
    """Settings of the service and of its load.

    Attributes:
        model: that is served.
        max_batch_size: of the engine.
        generators: processes that make the load.
        warm_up_seconds: of load that is not counted.
        seconds: of load that is counted.
    """

    model: str
    max_batch_size: int
    generators: int
    warm_up_seconds: float
    seconds: float


def rows(bench: Bench) -> Iterator[Row]:
    """Give the HTTP workers most of the cores, and then a quarter of them.

    The second start uses the first one's compiled code.
    """
    cores = sorted(os.sched_getaffinity(0))
    plan = Plan(model_of(bench)[0], MAX_BATCH_SIZE, max(len(cores) // 5, 1), 2.0, 5.0)
    if bench.quick:
        plan = Plan("demo", 2, 1, 0.5, 1.0)
    most, few = max(len(cores) - SPARE_CORES, 1), max(len(cores) // 4, 1)
    caches = CACHES / "service"
    service = partial(_service, bench, plan, str(caches))
    state = "full" if caches.exists() else "empty"
    yield from _loaded(bench, plan, service(most), cores, state, (SMALL, LARGE))
    if few != most:
        yield from _loaded(bench, plan, service(few), cores, "full", (SMALL,))


def _service(bench: Bench, plan: Plan, caches: str, workers: int) -> Contestant:
    return ours_real(
        plan.model,
        "random",
        max_batch_size=plan.max_batch_size,
        http_workers=str(workers),
        devices=f"cuda:{bench.device.index or 0}" if bench.is_cuda else "cpu",
        cache_dir=caches,
    )


def _loaded(
    bench: Bench,
    plan: Plan,
    service: Contestant,
    cores: list[int],
    caches: str,
    sizes: tuple[tuple[int, int], ...],
) -> Iterator[Row]:
    """Start the service once; load it with images of each size, and run the engine bare."""
    took = stopwatch()
    with RunningServer(service, draw_payloads(*SMALL)[0], ",".join(map(str, cores))) as server:
        ready_seconds = took()
        for size in sizes:
            row, images_a_batch = _http_row(plan, server, cores, size)
            yield row | {"caches at the start": caches, "ready s": ready_seconds}
            yield _bare_row(bench, images_a_batch, row)


def _http_row(
    plan: Plan, server: RunningServer, cores: list[int], size: tuple[int, int]
) -> tuple[Row, float]:
    """Measure under load; return the row and the mean number of images in a batch."""
    under_way = BATCHES_UNDER_WAY * plan.max_batch_size
    with LoadProcesses(
        server.target, size, processes=plan.generators, concurrency=under_way
    ) as load:
        counted_from = time.monotonic() + plan.warm_up_seconds
        until = counted_from + plan.seconds
        load.begin(counted_from, until)
        time.sleep(max(counted_from - time.monotonic(), 0.0))
        before = _snapshot(server, load, cores)
        time.sleep(max(until - time.monotonic(), 0.0))
        after = _snapshot(server, load, cores)
        answers = load.answers(until)
    usage = usage_between(
        before,
        after,
        cores=len(cores),
        decoding_threads=DECODING_THREADS,
        generators=plan.generators,
    )
    images_a_batch = (after.images - before.images) / max(after.batches - before.batches, 1)
    row: Row = {
        "model": plan.model,
        "what": f"over HTTP, {size[0]}x{size[1]} JPEG",
        "HTTP workers": len(after.workers),
        "images/s": answers.answered / plan.seconds,
        "HTTP's share": None,
        "images a batch": images_a_batch,
        "refused": answers.refused,
        "failed": answers.failed,
        "compilations": int(after.compilations),
        "HTTP cores": usage.workers_cores,
        "engine cores": usage.engine_cores,
        "generator cores": usage.generators_cores,
        "all cores": f"{usage.shares['all cores']:.0%} of {len(cores)}",
        "device busy": f"{usage.shares['the device']:.0%}",
        "what saturates": what_saturates(usage.shares),
    }
    return row, images_a_batch


def _snapshot(server: RunningServer, load: LoadProcesses, cores: list[int]) -> Snapshot:
    exposition = get(server.port, "/metrics")
    family = server.family
    return Snapshot(
        moment=time.monotonic(),
        images=sum_of("overlock_batch_size_sum", exposition),
        batches=sum_of("overlock_batch_size_count", exposition),
        device_seconds=sum_of("overlock_device_busy_seconds_total", exposition),
        compilations=sum_of("overlock_recompiles_total", exposition),
        workers=tuple(thread_seconds(pid) for pid in members_running(family, HTTP_WORKER)),
        # The first one: compilers that it forks have the same command line.
        engine=thread_seconds(members_running(family, ENGINE)[0]),
        generators_seconds=cpu_seconds(load.pids),
        cores_seconds=sum(core_busy_seconds(core) for core in cores),
    )


def _bare_row(bench: Bench, images_a_batch: float, http: Row) -> Row:
    """Run batches of that size in this process, one after the other, with pixels staged in advance.

    The service idles meanwhile. In an engine another thread stages, so this is the upper limit of
    the thread that drives the device.
    """
    served = serving(bench)
    name, side, predictor = served.name, served.side, served.predictor
    sizes = sorted(QUICK_BATCHES if bench.quick else BATCHES)
    count = min(max(round(images_a_batch), 1), sizes[-1])
    places = next(size for size in sizes if size >= count)
    served.prepare(places)
    images = [predictor.staging.stage(image) for image in noise_images(count, (side, side))]
    run = partial(predictor.classify, images, (places, side, side))
    per_second = count / bench.seconds([run], as_graph=False)
    over_http = http["images/s"]
    assert isinstance(over_http, float)
    return {
        "model": name,
        "what": f"bare engine, {count} in {places} places",
        "images/s": per_second,
        "images a batch": float(count),
        "HTTP's share": f"{over_http / per_second:.0%}",
    }
