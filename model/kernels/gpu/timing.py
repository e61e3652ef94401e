"""Timing of workloads on a device.

A kernel of this network takes microseconds, launching it from Python tens of them. So on a CUDA
device the workloads are captured as one CUDA graph, and its replays are timed between events: the
device's time alone, without the gaps between launches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

Workload = Callable[[], object]

WARM_UP_RUNS = 3
"""Runs before the first timed one: kernels are compiled and libraries choose their algorithms."""


def seconds_of(
    workloads: Sequence[Workload],
    device: torch.device,
    *,
    repeats: int = 10,
    repetitions: int = 4,
    as_graph: bool = True,
) -> float:
    """Return the median time of one workload, seconds.

    Args:
        workloads: the same work on different memory, so that one does not find its data in the
            caches. One is enough where the memory is cached in service too.
        device: where they run.
        repeats: number of timings, whose median is returned.
        repetitions: runs of each workload in one timing, on a CUDA device.
        as_graph: whether a CUDA device replays a graph; otherwise the host launches each kernel,
            and where the host is slower than the device, the host is timed.
    """
    if device.type != "cuda":
        return _seconds_on_host(workloads, repeats)
    turns = list(workloads) * repetitions
    timed = capture_graph(turns, device).replay if as_graph else partial(_run_all, turns)
    timed()
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(repeats)
    ]
    with torch.cuda.device(device):
        for start, end in events:
            start.record()
            timed()
            end.record()
        torch.cuda.synchronize()
    milliseconds: float = statistics.median(start.elapsed_time(end) for start, end in events)
    return milliseconds / 1e3 / (len(workloads) * repetitions)


def _run_all(workloads: Sequence[Workload]) -> None:
    for run in workloads:
        run()


def _seconds_on_host(workloads: Sequence[Workload], repeats: int) -> float:
    _run_all(workloads)
    seconds = []
    for repeat in range(repeats):
        run = workloads[repeat % len(workloads)]
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def capture_graph(workloads: Sequence[Workload], device: torch.device) -> torch.cuda.CUDAGraph:
    """Warm up, then capture the workloads, in order, as one CUDA graph."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        _run_all(list(workloads)[:1] * WARM_UP_RUNS + list(workloads))
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        _run_all(workloads)
    return graph
