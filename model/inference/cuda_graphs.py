"""Recorded batches: a fixed list of shapes, each launched with one call.

Launching a network kernel by kernel takes the host longer than a small batch takes the device. A
recording replays all launches at once, on the memory that it was made with.

All recordings share one pool of memory, so together they take little more than the largest. That
is safe because only one of them runs at a time, and because whatever outlives a replay lies outside
of the pool: the inputs are written into buffers of their own, the outputs are copied out inside the
recording. So replays may come in any order.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.inference.static_module import Run, Tensors

WARM_UP_RUNS = 3
"""Before a recording: libraries choose their algorithms in the first runs."""

MEMORY_SHARE = 0.25
"""Most of the device's memory that recordings take."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One recorded batch.

    Attributes:
        inputs: where a batch is put before a replay.
        outputs: where its results are after it, until the next replay.
        replay: launches it; does not wait.
        buffer_bytes: what inputs and outputs take.
        pool_growth_bytes: by how much making it enlarged the pool.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    buffer_bytes: int
    pool_growth_bytes: int


class Recorder(Protocol):
    """Makes recordings that share a pool."""

    def record(self, run: Run, pixels: Tensor, sizes: Tensor) -> Recording:
        """Record a run of a batch."""

    def new_pool(self) -> None:
        """Give the pool back, whose recordings are gone, and start another."""


class RecordedModule:
    """Runs a tensor part by replaying recordings of the listed shapes.

    The least recently used recordings are dropped where memory does not suffice for all, and made
    again when they are needed. A shape that is not on the list, or too large alone, is launched
    kernel by kernel.

    Args:
        run: what is recorded.
        recorder: makes the recordings.
        max_bytes: most memory that pool and buffers take.
    """

    def __init__(self, run: Run, recorder: Recorder, max_bytes: int) -> None:
        self._run = run
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._listed: set[torch.Size] = set()
        self._recordings: OrderedDict[torch.Size, Recording] = OrderedDict()
        self._pool_bytes = 0

    @property
    def recorded_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the recordings that exist, the least recently used first."""
        return tuple(self._recordings)

    @property
    def held_bytes(self) -> int:
        """Memory of the pool and of all inputs and outputs."""
        return self._pool_bytes + sum(each.buffer_bytes for each in self._recordings.values())

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Put a batch's shape on the list, and record it."""
        self._listed.add(pixels.shape)
        self._recording_of(pixels, sizes)

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch; the outputs are good until the next one of its shape."""
        recording = self._recording_of(pixels, sizes) if pixels.shape in self._listed else None
        if recording is None:
            return self._run(pixels, sizes)
        for place, value in zip(recording.inputs, (pixels, sizes), strict=True):
            place.copy_(value)
        recording.replay()
        return recording.outputs

    def _recording_of(self, pixels: Tensor, sizes: Tensor) -> Recording | None:
        shape = pixels.shape
        if shape in self._recordings:
            self._recordings.move_to_end(shape)
            return self._recordings[shape]
        self._record(pixels, sizes)
        while self.held_bytes > self._max_bytes and len(self._recordings) > 1:
            self._recordings.popitem(last=False)
        if self.held_bytes > self._max_bytes:
            # The pool keeps what dropped recordings needed; only an empty one can be given back.
            self._start_over()
            self._record(pixels, sizes)
        if self.held_bytes > self._max_bytes:
            self._start_over()
            self._listed.discard(shape)
            logger.warning("A batch of shape %s is too large to be recorded.", tuple(shape))
        return self._recordings.get(shape)

    def _record(self, pixels: Tensor, sizes: Tensor) -> None:
        recording = self._recorder.record(self._run, pixels, sizes)
        self._recordings[pixels.shape] = recording
        self._pool_bytes += recording.pool_growth_bytes

    def _start_over(self) -> None:
        self._recordings.clear()
        self._pool_bytes = 0
        self._recorder.new_pool()


class CudaGraphRecorder:
    """Records CUDA graphs.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Run, pixels: Tensor, sizes: Tensor) -> Recording:
        """Record a run of a batch."""
        inputs = (pixels.clone(), sizes.clone())
        outputs = self._warm_up(run, inputs)
        reserved_bytes = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        # An error of some other thread's harmless call shall not spoil the recording.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            for place, result in zip(outputs, run(*inputs), strict=True):
                place.copy_(result)
        return Recording(
            inputs,
            outputs,
            graph.replay,
            buffer_bytes=sum(tensor.nbytes for tensor in (*inputs, *outputs)),
            pool_growth_bytes=torch.cuda.memory_reserved(self._device) - reserved_bytes,
        )

    def new_pool(self) -> None:
        """Give the pool back and start another."""
        torch.cuda.empty_cache()
        self._pool = torch.cuda.graph_pool_handle()

    def _warm_up(self, run: Run, inputs: Tensors) -> Tensors:
        """Run on a stream of its own, as recording demands; return buffers for the outputs."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                outputs = tuple(torch.empty_like(result) for result in run(*inputs))
        torch.cuda.current_stream(self._device).wait_stream(stream)
        torch.cuda.synchronize(self._device)
        # What warming up left in the cache must not count as growth of the pool, nor hide it.
        torch.cuda.empty_cache()
        return outputs


def recording_bytes(device: torch.device) -> int:
    """Return the memory that recordings may take on a CUDA device."""
    _, total_bytes = torch.cuda.mem_get_info(device)
    return int(MEMORY_SHARE * total_bytes)
