"""Which kernels the time goes to, one line a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.classifiers import forward
from benchmarks.on_gpu.networks import images_of, in_form, trained, with_measured_kernels

LINES = 25
NAME_LENGTH = 90


def rows(bench: Bench) -> Iterator[Row]:
    """Profile the form that is served; the last line is all the rest."""
    name, size = ("nano", (64, 64)) if bench.quick else ("overlock_t", (224, 224))
    for batch in (2,) if bench.quick else (64, 1):
        images = images_of(bench, "fused", batch, size, bench.fast_dtype)
        network = in_form(trained(name), "fused", bench.fast_dtype, bench.device)
        network, _ = with_measured_kernels(bench, network, images)
        run = forward(network, images, "fused")
        run()
        activity = ProfilerActivity.CUDA if bench.is_cuda else ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity]) as profiled:
            run()
            bench.synchronize()
        yield from _lines(f"{name}, {batch}", profiled, bench)


def _lines(case: str, profiled: torch.profiler.profile, bench: Bench) -> Iterator[Row]:
    column = "self_device_time_total" if bench.is_cuda else "self_cpu_time_total"
    averages = sorted(
        profiled.key_averages(), key=lambda event: float(getattr(event, column)), reverse=True
    )
    spent = [(event.key, event.count, float(getattr(event, column))) for event in averages]
    everything = sum(microseconds for _, _, microseconds in spent)
    head, tail = spent[:LINES], spent[LINES:]
    if tail:
        head.append(
            (
                f"{len(tail)} others",
                sum(calls for _, calls, _ in tail),
                sum(microseconds for _, _, microseconds in tail),
            )
        )
    for key, calls, microseconds in head:
        yield {
            "case": case,
            "kernel": key[:NAME_LENGTH],
            "calls": calls,
            "us": microseconds,
            "share": f"{microseconds / everything:.1%}" if everything else "",
        }
