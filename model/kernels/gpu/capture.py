"""Capture of CUDA graphs: one stream, workspaces of the graph's own, and a way back from a failure.

cuBLAS keeps a workspace for each stream, and a graph holds its address. PyTorch frees the
workspaces of a graph's stream when the graph is destroyed (pytorch#193402), so two graphs must not
share one: the workspaces are given up before and after every capture, and each capture allocates
its own in its own pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all warm-ups and captures on a device.

    PyTorch hands out streams in turn: a new one each time would soon be one that others use, and
    leaves a workspace behind.
    """
    return torch.cuda.Stream(device)


@contextmanager
def on_capture_stream(device: torch.device) -> Iterator[None]:
    """Run a warm-up on the capture stream, between the work before it and the work behind it."""
    stream, before = capture_stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)
    torch.cuda.synchronize(device)


@contextmanager
def capturing(
    graph: torch.cuda.CUDAGraph,
    device: torch.device,
    pool: _POOL_HANDLE | None = None,
) -> Iterator[None]:
    """Capture what is launched inside; calls of other threads do not disturb it.

    Whatever fails, the thread is on its former stream afterwards, which ``torch.cuda.graph`` alone
    does not ensure, and the allocator is out of its capture, in which it would free nothing. A
    graph whose capture failed cannot be used, nor can its pool.

    Args:
        graph: empty.
        device: where it is captured.
        pool: memory to share with other graphs; None for a pool of its own.
    """
    stream = capture_stream(device)
    pool = pool or torch.cuda.graph_pool_handle()
    torch.cuda.synchronize(device)
    torch._C._cuda_clearCublasWorkspaces()
    try:
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"),
        ):
            yield
    except BaseException:
        _end_allocation(device, pool)
        raise
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _end_allocation(device: torch.device, pool: _POOL_HANDLE) -> None:
    """Tell the allocator that a failed capture has ended.

    PyTorch does so only behind the end of the capture itself, which raises if something inside has
    broken it. Where the capture did end, this raises, and there is nothing to do.
    """
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(device.index or 0, pool)
        torch._C._cuda_releasePool(device.index or 0, pool)
