"""Times what runs on a device.

A kernel of this network takes microseconds, launching it from Python tens of them. So on a CUDA
device the runs are recorded as one CUDA graph, and its replays are timed between events: that is
the device's time by itself, without the gaps between launches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

Run = Callable[[], object]

WARM_UP_RUNS = 3
"""Runs before the first timed one: kernels are compiled and libraries choose their algorithms."""


def seconds_of(
    runs: Sequence[Run],
    device: torch.device,
    *,
    repeats: int = 10,
    repetitions: int = 4,
    as_graph: bool = True,
) -> float:
    """Return the median time of one run, seconds.

    Args:
        runs: the same work on different memory, so that what the caches hold of one does not help
            the next. One is enough where the memory is hot in service too.
        device: where they run.
        repeats: timings that the median is of.
        repetitions: how often each run occurs in one timing, on a CUDA device.
        as_graph: whether a CUDA device replays a graph; otherwise the host launches each kernel,
            and where it is slower than the device, it is the host that is timed.
    """
    if device.type != "cuda":
        return _on_the_host(runs, repeats)
    turns = list(runs) * repetitions
    timed = recorded(turns, device).replay if as_graph else partial(_in_order, turns)
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
    return milliseconds / 1e3 / (len(runs) * repetitions)


def _in_order(runs: Sequence[Run]) -> None:
    for run in runs:
        run()


def _on_the_host(runs: Sequence[Run], repeats: int) -> float:
    for run in runs:
        run()
    seconds = []
    for repeat in range(repeats):
        run = runs[repeat % len(runs)]
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def recorded(runs: Sequence[Run], device: torch.device) -> torch.cuda.CUDAGraph:
    """Record the runs, in order, as one graph."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for run in list(runs)[:1] * WARM_UP_RUNS + list(runs):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for run in runs:
            run()
    return graph
