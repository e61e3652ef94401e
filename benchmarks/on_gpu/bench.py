"""The device and thoroughness of a run of the GPU benchmark, and the common timing of sections."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.kernels.gpu.timing import Workload, seconds_of

Row = dict[str, object]
"""One line of a section's table; all lines of a section have the same columns, in order."""

BENCHMARKS = Path(__file__).resolve().parent.parent
CARRIED = BENCHMARKS / "carried"
"""Files made elsewhere that save time on the GPU machine: the CPU's outputs, compiled code."""

CACHES = CARRIED / "caches"
"""Caches of Triton and of the compiler, in use."""

L2_BYTES = 64 * 2**20
"""More than an H200's second-level cache: work that alternates with so much data reads memory."""


@dataclass(frozen=True)
class Bench:
    """The device, and how thoroughly to measure it.

    Attributes:
        device: that is measured.
        quick: tiny problems and few repeats, to try the program; measures nothing.
        output: folder of the results.
    """

    device: torch.device
    quick: bool
    output: Path = BENCHMARKS / "results" / "gpu"

    @property
    def compiler(self) -> str:
        """Backend of torch.compile; a quick run only traces."""
        return "eager" if self.quick else "inductor"

    @property
    def is_cuda(self) -> bool:
        """Whether the device has our kernels, graphs and its own memory."""
        return self.device.type == "cuda"

    @property
    def fast_dtype(self) -> torch.dtype:
        """The dtype that is served: bfloat16 on a GPU; a CPU may compute it in plain loops."""
        return torch.bfloat16 if self.is_cuda else torch.float32

    def set_up(self) -> None:
        """Configure PyTorch for the whole process."""
        torch.backends.cudnn.benchmark = True  # convolutions are chosen by measuring, as in service
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if self.is_cuda:
            torch.cuda.set_device(self.device.index or 0)
        if self.quick:
            torch.set_num_threads(1)  # beside other work, threads that wait for each other crawl

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, runs: Sequence[Workload], *, as_graph: bool = True) -> float:
        """Return the median time of one run; see ``model.kernels.gpu.timing``."""
        repeats, repetitions = (1, 1) if self.quick else (10, 2)
        return seconds_of(
            runs, self.device, repeats=repeats, repetitions=repetitions, as_graph=as_graph
        )

    def cold_seconds(self, make: Callable[[], Workload], bytes_each: float) -> float:
        """Time a run whose data comes from memory: enough of them, with data of their own."""
        sets = 1 if self.quick else max(1, min(256, int(3 * L2_BYTES / bytes_each) + 1))
        return self.seconds([make() for _ in range(sets)])

    def forget_memory(self) -> None:
        """Free unused memory and reset the peak."""
        gc.collect()  # compiled networks are in cycles
        if self.is_cuda:
            self.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gigabytes(self) -> float | None:
        """Peak memory of tensors since ``forget_memory``; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.is_cuda else None

    def held_gigabytes(self) -> float | None:
        """Memory reserved on the device at present, used or not; None on a CPU."""
        return torch.cuda.memory_reserved(self.device) / 1e9 if self.is_cuda else None


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: for ``--only``.
        title: heading of its table.
        seconds: its budget, the start of its process included; no row begins later, and a row that
            is still running then is aborted.
        rows: measures the rows one by one.
        release: frees what several sections share; called after the last of them.
        own_process: whether it shares its process with no other section.
        is_gate: whether its failure ends the program.
        is_last_duty: whether its seconds are kept free even if earlier sections overrun theirs.
    """

    name: str
    title: str
    seconds: float
    rows: Callable[[Bench], Iterator[Row]]
    release: Callable[[], None] | None = None
    own_process: bool = False
    is_gate: bool = False
    is_last_duty: bool = False


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the norm of the difference over the norm of ``want``; NaN exceeds every bound."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    error: float = ((got - want).norm() / want.norm()).item()
    return error


def verdict(error: float, bound: float) -> str:
    """Return "ok" if an error is within its bound, else "WRONG"."""
    return "ok" if error <= bound else "WRONG"


def stopwatch() -> Callable[[], float]:
    """Return a function that returns the seconds since this call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
