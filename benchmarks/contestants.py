"""Forms of a network that a benchmark times, each in a process of its own.

The served form runs in an engine's environment, the others in the machine's. A process builds its
network, makes one pass to warm up, and then makes a pass on demand, so that contestants can take
turns. A waiting one costs the others nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.authors_structure import with_authors_structure
from benchmarks.instructions import LIMITS, use_limited_kernels
from benchmarks.machine import own_peak_bytes
from model.heads.mask_rcnn import MaskRCNN
from model.inference.recorded_network import recorded
from model.lowering.cpu import lower_for_cpu
from model.zoo import create_model
from service.processes.environment import engine_environment

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

GEMM_SIDE = 2048

SURE = 100.0
"""Factor on a random detector's class logits with which it finds 100 objects."""

Pass = Callable[[], Tensor]


@dataclass(frozen=True)
class Contestant:
    """A form of a network in a dtype.

    Attributes:
        form: "authors" (``benchmarks.authors_structure``), "folded" (PyTorch's operators alone,
            channels_last), "compiled" (that by torch.compile), "served" (what a CPU's engine runs)
            or "gemm" (a matrix product).
        dtype: of weights and images.
        instructions: a name of ``LIMITS``; empty for all of the processor's.
    """

    form: str
    dtype: str
    instructions: str = ""


@dataclass(frozen=True)
class Task:
    """The model, its part and the input that are timed.

    Attributes:
        model: a name of ``model.zoo``.
        part: "whole" or "backbone", which stops at the dense maps.
        batch: images.
        height: of the input, pixels.
        width: of the input, pixels.
    """

    model: str
    part: str
    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class FirstPass:
    """The first pass of a contestant.

    Attributes:
        output: float32, cut to the first million numbers; empty for a product.
        compile_seconds: of compiling, before the pass; 0 for all other forms.
        seconds: of the pass.
        peak_bytes: most resident memory until its end.
        gmacs: multiply-adds of a pass, 10^9; 0 if they were not counted.
    """

    output: NDArray[np.float32]
    compile_seconds: float
    seconds: float
    peak_bytes: int
    gmacs: float


class Racer:
    """A contestant's process, until it is closed.

    Args:
        contestant: its form and dtype.
        task: its model and input.
        threads: of PyTorch's operators.
        count: whether to count the multiply-adds of a pass, which takes another pass.
    """

    def __init__(self, contestant: Contestant, task: Task, threads: int, *, count: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_race, args=(theirs, contestant, task, threads, count), daemon=True
        )
        before = dict(os.environ)
        if contestant.form == "served":
            os.environ.update(engine_environment())
        if contestant.instructions:
            os.environ.update(LIMITS[contestant.instructions].environment)
        self._process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def first_pass(self) -> FirstPass:
        """Wait for the pass that warms up."""
        first: FirstPass = self._connection.recv()
        return first

    def run(self) -> float:
        """Make a pass; return its seconds."""
        self._connection.send(None)
        seconds: float = self._connection.recv()
        return seconds


def _race(
    connection: Connection, contestant: Contestant, task: Task, threads: int, count: bool
) -> None:
    torch.set_num_threads(threads)
    with torch.inference_mode():
        run = _gemm(contestant) if contestant.form == "gemm" else _network(contestant, task)
        compile_seconds = 0.0
        if contestant.form == "compiled":
            run = torch.compile(run, fullgraph=True, dynamic=False)
            start = time.perf_counter()
            run()
            compile_seconds = time.perf_counter() - start
        start = time.perf_counter()
        output = run()
        seconds = time.perf_counter() - start
        peak_bytes = own_peak_bytes()
        kept = output.new_empty(0) if contestant.form == "gemm" else output.flatten()[:1_000_000]
        gmacs = _counted_gmacs(run) if count else 0.0
        connection.send(
            FirstPass(kept.float().numpy(), compile_seconds, seconds, peak_bytes, gmacs)
        )
        try:
            while True:
                connection.recv()
                start = time.perf_counter()
                run()
                connection.send(time.perf_counter() - start)
        except EOFError:
            return


def _gemm(contestant: Contestant) -> Pass:
    matrix = torch.randn(GEMM_SIDE, GEMM_SIDE).to(DTYPES[contestant.dtype])
    return lambda: matrix @ matrix


def _network(contestant: Contestant, task: Task) -> Pass:
    dtype = DTYPES[contestant.dtype]
    images = random_images(task)
    authors = contestant.form == "authors"
    network: nn.Module = create_model(task.model, weights="random", fused=not authors)
    if authors:
        network = with_authors_structure(network)
    if isinstance(network, MaskRCNN):
        for head in network.roi_heads.box_heads:
            head.get_parameter("classify.weight").mul_(SURE)
    if contestant.instructions:
        use_limited_kernels(contestant.instructions)
    if contestant.form == "served":
        network = lower_for_cpu(network, dtype)
    if not authors:
        network = network.to(dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(dtype, memory_format=torch.channels_last)
    if contestant.form == "served":
        network = recorded(network)

    def run() -> Tensor:
        if task.part == "backbone":
            maps: tuple[Tensor, ...] = network.backbone.dense_features(images)  # type: ignore[operator, union-attr]
            return maps[-1]
        if isinstance(network, MaskRCNN):
            found = network(images, [images.shape[2:]] * task.batch)
            return torch.cat([detections.scores for detections in found])
        output: Tensor = network(images)
        return output

    return run


def random_images(task: Task) -> Tensor:
    """Return a task's input, float32 (B, 3, H, W), the same every time."""
    shape = (task.batch, 3, task.height, task.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _counted_gmacs(run: Pass) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2e9
