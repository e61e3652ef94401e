"""CUDA graphs of batches: a fixed list of shapes, each launched with one call.

Launching a network kernel by kernel takes the host longer than a small batch takes the device. A
recording replays all launches at once, on the memory that it was made with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from model.inference.recordings import Recording, Recordings
from model.inference.static_module import ForwardFunction, Tensors
from model.kernels.gpu.capture import capturing, on_capture_stream
from model.kernels.gpu.failures import StepError

WARM_UP_RUNS = 3
"""Runs before a recording: libraries choose their algorithms in them."""

MEMORY_SHARE = 0.25
"""Largest share of the device's memory for the recordings of all models together."""

MAX_PADDING = 0.25
"""Largest share of padding in a batch that is enlarged to one that is recorded."""

logger = logging.getLogger(__name__)


class RecordedModule:
    """Runs a static module by replaying recordings of the listed shapes.

    Recordings that were dropped are made again when they are needed. A shape that is not on the
    list, or whose recording was given up, is launched kernel by kernel.

    Args:
        forward: the function to record.
        recordings: holds the recordings, beside those of other models.
        on_failure: called with the reason if a recording fails; from then on every batch is
            launched kernel by kernel.
        on_rerecording: called when a listed shape is recorded while a batch waits for it.
    """

    def __init__(
        self,
        forward: ForwardFunction,
        recordings: Recordings,
        *,
        on_failure: Callable[[str], None] = lambda _: None,
        on_rerecording: Callable[[], None] = lambda: None,
    ) -> None:
        self._forward = forward
        self._recordings = recordings
        self._owner = object()
        self._on_failure = on_failure
        self._on_rerecording = on_rerecording
        self._failed = False
        self._listed: set[torch.Size] = set()

    @property
    def recorded_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the present recordings, the least recently used first."""
        return self._recordings.shapes_of(self._owner)

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Add a batch's shape to the list, and record it.

        Raises:
            torch.OutOfMemoryError: if the device has no room for the recording.
            Exception: what the function raises, if it fails without being recorded too.
        """
        if self._failed:
            return
        self._listed.add(pixels.shape)
        try:
            self._recording_for(pixels, sizes)
        except StepError as failure:
            self._run_unrecorded(failure, pixels, sizes)

    def start_over(self) -> None:
        """Forget all recordings and the list."""
        self._listed.clear()
        self._recordings.forget(self._owner)

    def padded_size(self, shape: tuple[int, int, int]) -> int:
        """Return the batch size that runs a batch of this shape fastest.

        That is the next listed one, if little of it would be padding: launching a batch kernel by
        kernel takes the host as long as the device needs for one or two large images.
        """
        count, *sides = shape
        larger = [size[0] for size in self._listed if [*size[1:3]] == sides and size[0] >= count]
        nearest = min(larger, default=count)
        return nearest if nearest - count <= MAX_PADDING * nearest else count

    def inputs_for(self, shape: tuple[int, int, int]) -> Tensors | None:
        """Return the buffers of a recording's pixels and sizes, to be written in the next batch.

        Args:
            shape: batch size, height and width.

        Returns:
            Buffers that replays read, in the order of the computing stream; None if the shape is
            not recorded.
        """
        recording = self._recordings.get((self._owner, torch.Size((*shape, 3))))
        return recording.inputs if recording is not None else None

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch; its outputs are valid until the next one of its shape.

        Args:
            pixels: as ``StaticModule`` takes them; nothing is copied if both are ``inputs_for``.
            sizes: of the images.
        """
        key = (self._owner, pixels.shape)
        try:
            recording = self._recording_under_traffic(pixels, sizes)
        except torch.OutOfMemoryError:
            self._recordings.evict({key})
            recording = None
        except StepError as failure:
            return self._run_unrecorded(failure, pixels, sizes)
        if recording is None:
            return self._forward(pixels, sizes)
        for buffer, value in zip(recording.inputs, (pixels, sizes), strict=True):
            if buffer is not value:
                buffer.copy_(value)
        recording.replay()
        return recording.outputs

    def _recording_under_traffic(self, pixels: Tensor, sizes: Tensor) -> Recording | None:
        key = (self._owner, pixels.shape)
        if pixels.shape not in self._listed or not self._recordings.may_make(key):
            return None
        if self._recordings.get(key) is None:
            logger.info("A batch of shape %s is recorded anew.", tuple(pixels.shape))
            self._on_rerecording()
        return self._recording_for(pixels, sizes)

    def _recording_for(self, pixels: Tensor, sizes: Tensor) -> Recording | None:
        key = (self._owner, pixels.shape)
        held = self._recordings.get(key)
        return held or self._recordings.make(key, self._forward, pixels, sizes)

    def _run_unrecorded(self, failure: StepError, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch whose recording failed, and record nothing any more.

        If it fails too, that is not the recording's failure, and the caller's matter.
        """
        outputs = self._forward(pixels, sizes)
        self._failed = True
        self.start_over()
        self._on_failure(str(failure))
        return outputs


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
        with capturing(graph, self._device, self._pool):
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
        """Wait for replays, free the pool and start another."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        self._pool = torch.cuda.graph_pool_handle()

    def _warm_up(self, forward: ForwardFunction, inputs: Tensors) -> Tensors:
        """Run as capture requires; return buffers for the outputs."""
        with on_capture_stream(self._device):
            for _ in range(WARM_UP_RUNS):
                outputs = tuple(torch.empty_like(result) for result in forward(*inputs))
        # Memory that the warm-up left cached must neither count as growth of the pool nor hide it.
        torch.cuda.empty_cache()
        return outputs


def recordings_on(device: torch.device) -> Recordings:
    """Return a holder of recordings on a CUDA device, for all of its models."""
    _, total_bytes = torch.cuda.mem_get_info(device)
    return Recordings(CudaGraphRecorder(device), int(MEMORY_SHARE * total_bytes))
