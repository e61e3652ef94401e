"""A profile of served batches, one line per kernel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.served import serving

LINES = 25
NAME_LENGTH = 90


def rows(bench: Bench) -> Iterator[Row]:
    """Profile batches as they are served; the last line of each sums up all other kernels."""
    served = serving(bench)
    name, side, predictor = served.name, served.side, served.predictor
    for batch in (2,) if bench.quick else (64, 1):
        served.prepare(batch)
        predictor.dry_run((batch, side, side))
        activity = ProfilerActivity.CUDA if bench.is_cuda else ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity]) as profiled:
            predictor.dry_run((batch, side, side))
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
