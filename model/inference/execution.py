"""Execution of a static module in the fastest form that works on its device.

Three steps make it faster: measured kernels, compiling and recording. Each may fail on a device
that can run the network without it. A failure of kernels or of a recording is logged and noted
here, and the next simpler form runs; whether compiling may fail is the caller's decision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from model.inference.compiled import CompiledModule
from model.inference.cuda_graphs import RecordedModule, recordings_on
from model.inference.recordings import Key, Recordings
from model.inference.static_module import ForwardFunction, Tensors
from model.kernels.gpu.autotune import Autotuner, SecondsOf
from model.kernels.gpu.failures import (
    Fallback,
    Step,
    StepError,
    failing_as,
    is_out_of_memory,
    raise_if_device_lost,
)
from model.kernels.gpu.support import launch_unsupported_reason, turn_off_triton, without_triton
from model.kernels.gpu.timing import seconds_of
from model.kernels.gpu.tuning import tune
from model.lowering.cpu import lowering_unsupported_reason

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """The means that only a GPU has.

    Attributes:
        recordings: holds recordings, of other models too.
        autotuner: the fastest kernels; None without kernels.
        seconds_of: times a candidate.
    """

    recordings: Recordings
    autotuner: Autotuner | None
    seconds_of: SecondsOf


def kernels_unsupported_reason(
    device: torch.device, dtype: torch.dtype, *, compiles: bool
) -> str | None:
    """Return why our kernels do not run for a device and dtype, or None if they do."""
    if device.type == "cuda":
        return launch_unsupported_reason(device)
    if compiles:
        return "the compiler cannot look into the native ones"
    return lowering_unsupported_reason(dtype)


def gpu_on(device: torch.device, recordings: Recordings | None, autotuner: Autotuner | None) -> Gpu:
    """Return the means of a CUDA device, with recordings of its own if none are handed in."""
    # Not "or": without a recording yet they are empty.
    held = recordings_on(device) if recordings is None else recordings
    return Gpu(held, autotuner, lambda run: seconds_of([run], device))


@dataclass(frozen=True)
class PreparationSeconds:
    """Seconds that the preparation of one batch's shape took, by step."""

    measuring: float
    compiling: float
    recording: float


class Execution:
    """Runs a static module.

    Args:
        module: its regions are compiled in place.
        gpu: None on a CPU.
        compiler: torch.compile backend; None to compile nothing.

    Attributes:
        fallbacks: steps that failed and were replaced by a simpler form.
        on_fallback: called with each of them.
        on_rerecording: called when a recording is made anew under traffic.
    """

    def __init__(self, module: nn.Module, gpu: Gpu | None, compiler: str | None) -> None:
        self._module = module
        self._gpu = gpu
        self._autotuner = gpu.autotuner if gpu else None
        self._compiled = CompiledModule(module, backend=compiler) if compiler else None
        self._recorded = self._recording()
        self.fallbacks: list[Fallback] = []
        self.on_fallback: Callable[[Fallback], None] = lambda _: None
        self.on_rerecording: Callable[[], None] = lambda: None

    @property
    def recorded(self) -> RecordedModule | None:
        """The recordings, on a GPU."""
        return self._recorded

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch; see ``StaticModule``. Outputs are valid until the next batch."""
        run: ForwardFunction = self._recorded or self._compiled or self._module
        return self.with_kernels(partial(run, pixels, sizes))

    def with_kernels(self, run: Callable[[], Result]) -> Result:
        """Run something that may launch our kernels; where they fail, PyTorch's operators run it.

        Raises:
            Exception: what PyTorch's operators raise, if they fail too.
        """
        return cast("Result", self._try_kernels(run, run))

    def with_memory(self, run: Callable[[], Result]) -> Result:
        """Run something on the device; if its memory does not suffice, give up recordings for it.

        Args:
            run: may be called several times, until it succeeds or no recording is left.

        Raises:
            DeviceLostError: if the device does not work any more.
            Exception: what ``run`` raises at last; then the recordings may be made again.
        """
        if self._gpu is None:
            return run()
        recordings, evicted = self._gpu.recordings, set[Key]()
        while True:
            try:
                return run()
            except Exception as error:
                raise_if_device_lost(error)
                if not recordings or not is_out_of_memory(error):
                    recordings.readmit(evicted)
                    raise
            # Behind the handler, whose error holds the memory of what has failed.
            evicted |= recordings.evict()

    def prepare(self, pixels: Tensor, sizes: Tensor) -> PreparationSeconds:
        """Choose kernels for a batch's shape, compile for it, and record it.

        Raises:
            CompileError: if the compiler fails.
            DeviceLostError: if the device does not work any more.
            torch.OutOfMemoryError: if the device has no room for the batch.
            RuntimeError: if not even PyTorch's own operators can run it.
        """
        moments = [time.perf_counter()]
        # cuDNN's choice is recorded; other shapes must not wait for a benchmark under traffic.
        with _cudnn_benchmark():
            # A compiled graph holds the kernels' choices as constants: measure before compiling.
            for step in (self._measure, self._compile, self._record):
                step(pixels, sizes)
                moments.append(time.perf_counter())
        seconds = (end - start for start, end in pairwise(moments))
        return PreparationSeconds(*seconds)

    def do_not_compile(self, reason: str) -> None:
        """Run everything uncompiled, after a failure of the compiler."""
        if self._compiled is None:
            return
        self._compiled.release()
        self._compiled = None
        self.start_over()
        has_failed = any(fallback.what == "record" for fallback in self.fallbacks)
        self._recorded = None if has_failed else self._recording()
        self._fall_back("compile", reason)

    def start_over(self) -> None:
        """Forget all recordings and their list."""
        if self._recorded is not None:
            self._recorded.start_over()

    def padded_size(self, shape: tuple[int, int, int]) -> int:
        """Return the batch size to run a batch of this shape with."""
        return shape[0] if self._recorded is None else self._recorded.padded_size(shape)

    def _recording(self) -> RecordedModule | None:
        if self._gpu is None:
            return None
        return RecordedModule(
            self._compiled or self._module,
            self._gpu.recordings,
            on_failure=partial(self._fall_back, "record"),
            on_rerecording=lambda: self.on_rerecording(),
        )

    def _measure(self, pixels: Tensor, sizes: Tensor) -> None:
        """Run the network uncompiled, and measure the kernels that it could use."""
        if self._gpu is None:
            return
        run = partial(self._run_eagerly, pixels, sizes)
        if self._autotuner is None:
            run()  # a batch that is too large fails here, and is no failure of the compiler
            return
        seconds_of = self._gpu.seconds_of
        self._try_kernels(partial(tune, run, self._autotuner, len(pixels), seconds_of), run)

    def _try_kernels(
        self, run: Callable[[], object], without_kernels: Callable[[], object]
    ) -> object:
        if self._autotuner is None:
            return run()
        try:
            with failing_as(StepError):
                return run()
        except StepError as failure:
            reason = str(failure)
            with without_triton(reason):
                result = without_kernels()  # raises if the kernels are not the cause
            turn_off_triton(reason)
            self._autotuner = None
            self._fall_back("kernels", reason)
            return result

    def _compile(self, pixels: Tensor, sizes: Tensor) -> None:
        if self._compiled is not None:
            self._compiled.prepare(pixels, sizes)

    def _record(self, pixels: Tensor, sizes: Tensor) -> None:
        if self._recorded is not None:
            self.with_kernels(partial(self._recorded.prepare, pixels, sizes))

    def _run_eagerly(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        run: ForwardFunction = self._compiled.run_eagerly if self._compiled else self._module
        return run(pixels, sizes)

    def _fall_back(self, what: Step, reason: str) -> None:
        logger.warning("A step failed (%s), and a simpler form runs: %s", what, reason)
        fallback = Fallback(what, reason)
        self.fallbacks.append(fallback)
        self.on_fallback(fallback)


@contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
