"""CUDA graphs of batches: a fixed list of shapes, each launched with one call.

Launching a network kernel by kernel takes the host longer than a small batch takes the device. A
recording replays all launches at once, on the memory that it was made with.

All recordings share one memory pool, so together they take little more than the largest. That is
safe because only one of them runs at a time, and because tensors that outlive a replay lie outside
the pool: inputs have buffers of their own, and outputs are copied out inside the recording. So
replays may run in any order.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.inference.static_module import ForwardFunction, Tensors

WARM_UP_RUNS = 3
"""Runs before a recording: libraries choose their algorithms in them."""

MEMORY_SHARE = 0.25
"""Largest share of the device's memory for recordings."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One recorded batch.

    Attributes:
        inputs: buffers that a batch is copied into before a replay.
        outputs: buffers that hold its results until the next replay.
        replay: launches the graph; does not wait.
        buffer_bytes: size of inputs and outputs.
        pool_growth_bytes: growth of the pool when this was recorded.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    buffer_bytes: int
    pool_growth_bytes: int


class Recorder(Protocol):
    """Makes recordings that share a pool."""

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        """Record the forward pass of a batch."""

    def new_pool(self) -> None:
        """Free the pool, after its recordings are gone, and start another."""


class RecordedModule:
    """Runs a static module by replaying recordings of the listed shapes.

    The least recently used recordings are dropped if memory does not suffice for all, and made
    again when they are needed. A shape that is not on the list, or alone too large, is launched
    kernel by kernel.

    Args:
        forward: the function to record.
        recorder: makes the recordings.
        max_bytes: limit for the pool and the buffers together.
    """

    def __init__(self, forward: ForwardFunction, recorder: Recorder, max_bytes: int) -> None:
        self._forward = forward
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._listed: set[torch.Size] = set()
        self._recordings: OrderedDict[torch.Size, Recording] = OrderedDict()
        self._pool_bytes = 0

    @property
    def recorded_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the present recordings, the least recently used first."""
        return tuple(self._recordings)

    @property
    def held_bytes(self) -> int:
        """Memory of the pool and of all input and output buffers."""
        return self._pool_bytes + sum(
            recording.buffer_bytes for recording in self._recordings.values()
        )

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Add a batch's shape to the list, and record it."""
        self._listed.add(pixels.shape)
        self._recording_for(pixels, sizes)

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch; its outputs are valid until the next one of its shape."""
        recording = self._recording_for(pixels, sizes) if pixels.shape in self._listed else None
        if recording is None:
            return self._forward(pixels, sizes)
        for buffer, value in zip(recording.inputs, (pixels, sizes), strict=True):
            buffer.copy_(value)
        recording.replay()
        return recording.outputs

    def _recording_for(self, pixels: Tensor, sizes: Tensor) -> Recording | None:
        shape = pixels.shape
        if shape in self._recordings:
            self._recordings.move_to_end(shape)
            return self._recordings[shape]
        self._record(pixels, sizes)
        while self.held_bytes > self._max_bytes and len(self._recordings) > 1:
            self._recordings.popitem(last=False)
        if self.held_bytes > self._max_bytes:
            # The pool keeps the memory of dropped recordings; only an empty one can be freed.
            self._drop_all()
            self._record(pixels, sizes)
        if self.held_bytes > self._max_bytes:
            self._drop_all()
            self._listed.discard(shape)
            logger.warning("A batch of shape %s is too large to be recorded.", tuple(shape))
        return self._recordings.get(shape)

    def _record(self, pixels: Tensor, sizes: Tensor) -> None:
        recording = self._recorder.record(self._forward, pixels, sizes)
        self._recordings[pixels.shape] = recording
        self._pool_bytes += recording.pool_growth_bytes

    def _drop_all(self) -> None:
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

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        """Record the forward pass of a batch."""
        inputs = (pixels.clone(), sizes.clone())
        outputs = self._warm_up(forward, inputs)
        reserved_bytes = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        # thread_local: calls of other threads must not invalidate the recording.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            for buffer, result in zip(outputs, forward(*inputs), strict=True):
                buffer.copy_(result)
        return Recording(
            inputs,
            outputs,
            graph.replay,
            buffer_bytes=sum(tensor.nbytes for tensor in (*inputs, *outputs)),
            pool_growth_bytes=torch.cuda.memory_reserved(self._device) - reserved_bytes,
        )

    def new_pool(self) -> None:
        """Free the pool and start another."""
        torch.cuda.empty_cache()
        self._pool = torch.cuda.graph_pool_handle()

    def _warm_up(self, forward: ForwardFunction, inputs: Tensors) -> Tensors:
        """Run on a side stream, as capture requires; return buffers for the outputs."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                outputs = tuple(torch.empty_like(result) for result in forward(*inputs))
        torch.cuda.current_stream(self._device).wait_stream(stream)
        torch.cuda.synchronize(self._device)
        # Memory that the warm-up left cached must neither count as growth of the pool nor hide it.
        torch.cuda.empty_cache()
        return outputs


def recording_limit_bytes(device: torch.device) -> int:
    """Return the memory limit for recordings on a CUDA device."""
    _, total_bytes = torch.cuda.mem_get_info(device)
    return int(MEMORY_SHARE * total_bytes)
