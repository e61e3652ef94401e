"""Classifiers at 224x224 over batch sizes and forms, and the latency of one image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import Bench, Row, relative_error
from benchmarks.on_gpu.networks import (
    Form,
    images_of,
    in_form,
    trained,
    with_measured_kernels,
    without_our_kernels,
)
from model.kernels.gpu.timing import capture_graph

FORMS: tuple[Form, ...] = ("fused", "authors", "authors in float32", "plain")
BATCHES = (64, 256, 1)
MORE_BATCHES = (128, 16, 32, 8, 4, 2)

LATENCIES = 300


def rows(bench: Bench) -> Iterator[Row]:
    networks: dict[tuple[str, Form], nn.Module] = {}
    for name, form, batch in [("nano", form, 2) for form in FORMS] if bench.quick else _cases():
        if (name, form) not in networks:
            dtype = dtype_of(bench, form)
            networks[name, form] = in_form(trained(name), form, dtype, bench.device)
        yield _row(bench, name, networks[name, form], form, batch)


def _cases() -> Iterator[tuple[str, Form, int]]:
    """Yield the cases, the most important first: T in every form, then the others as served."""
    others = ("overlock_xt", "overlock_b", "overlock_s")
    for form in FORMS:
        yield "overlock_t", form, BATCHES[0]
    for name in ("overlock_t", *others):
        for batch in BATCHES[1:] if name == "overlock_t" else BATCHES:
            yield name, "fused", batch
    for batch in MORE_BATCHES:
        for name in ("overlock_t", *others):
            yield name, "fused", batch


def dtype_of(bench: Bench, form: Form) -> torch.dtype:
    """Return the dtype of a form."""
    return torch.float32 if form == "authors in float32" else bench.fast_dtype


def _row(bench: Bench, name: str, network: nn.Module, form: Form, batch: int) -> Row:
    """Time one form at one batch size, launched by the host and as a CUDA graph."""
    size, dtype = (64, 64) if bench.quick else (224, 224), dtype_of(bench, form)
    images = images_of(bench, form, batch, size, dtype)
    if form == "fused":
        network, _ = with_measured_kernels(bench, network, images)
    bench.forget_memory()
    run = forward(network, images, form)
    run()
    peak = bench.peak_gigabytes()
    eager = bench.seconds([run], as_graph=False)
    # The authors' code looks its position bias up with indices made on the host: no graph there.
    graphed = bench.seconds([run]) if bench.is_cuda and form in {"fused", "plain"} else None
    return {
        "model": name,
        "batch": batch,
        "form": form,
        "dtype": str(dtype),
        "eager ms": eager * 1e3,
        "graph ms": graphed and graphed * 1e3,
        "images/s": batch / min(eager, graphed or eager),
        "peak GB": peak,
    }


def forward(
    network: Callable[[Tensor], Tensor], images: Tensor, form: Form
) -> Callable[[], Tensor]:
    """Return one forward pass."""

    @torch.inference_mode()
    def run() -> Tensor:
        if form == "fused":
            return network(images)
        with without_our_kernels():
            return network(images)

    return run


def latency_rows(bench: Bench) -> Iterator[Row]:
    """Time one image from the call to the logits on the host, one after the other."""
    for name in ("nano",) if bench.quick else ("overlock_t", "overlock_xt", "overlock_b"):
        size = (64, 64) if bench.quick else (224, 224)
        images = images_of(bench, "fused", 1, size, bench.fast_dtype)
        network = in_form(trained(name), "fused", bench.fast_dtype, bench.device)
        network, _ = with_measured_kernels(bench, network, images)
        run = forward(network, images, "fused")
        want = run().clone()
        yield _latency_row(bench, name, "eager", run, want)
        if bench.is_cuda:
            yield _latency_row(bench, name, "CUDA graph", _as_graph(bench, run), want)


def _as_graph(bench: Bench, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    results: list[Tensor] = []
    graph = capture_graph([lambda: results.append(run())], bench.device)

    def replayed() -> Tensor:
        graph.replay()
        return results[-1]  # the recorded run's output, which replays overwrite

    return replayed


def _latency_row(bench: Bench, name: str, how: str, run: Callable[[], Tensor], want: Tensor) -> Row:
    error = relative_error(run(), want)
    seconds = []
    for _ in range(5 if bench.quick else LATENCIES):
        bench.synchronize()
        start = time.perf_counter()
        run().cpu()
        seconds.append(time.perf_counter() - start)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "model": name,
        "how": how,
        "p50 ms": cuts[49] * 1e3,
        "p99 ms": cuts[98] * 1e3,
        "difference from eager": error,
    }
