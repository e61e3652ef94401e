"""Memory of recordings: those of all models of an engine, within one limit.

All recordings share one memory pool, so together they take little more than the largest. That is
safe because only one of them runs at a time, and because tensors that outlive a replay lie outside
the pool: inputs have buffers of their own, and outputs are copied out inside the recording. So
replays may run in any order.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.inference.static_module import ForwardFunction, Tensors
from model.kernels.gpu.failures import StepError, failing_as

Key = tuple[object, torch.Size]
"""The owner of a recording, and the shape of its pixels."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One recorded batch.

    Attributes:
        inputs: buffers that a batch is written to before a replay.
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
        """Wait for replays, free the pool, after its recordings are gone, and start another."""


class Recordings:
    """Holds recordings, each for an owner and a shape.

    Above the limit the least recently used are dropped, of whichever owner; they may be made again.
    Those that are given up, since the device's memory is needed otherwise, are not made again.

    Args:
        recorder: makes them.
        max_bytes: limit for the pool and the buffers together.
    """

    def __init__(self, recorder: Recorder, max_bytes: int) -> None:
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._held: OrderedDict[Key, Recording] = OrderedDict()
        self._evicted: set[Key] = set()
        self._pool_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """Memory of the pool and of all input and output buffers."""
        return self._pool_bytes + sum(each.buffer_bytes for each in self._held.values())

    def shapes_of(self, owner: object) -> tuple[torch.Size, ...]:
        """Return the shapes of an owner's recordings, the least recently used first."""
        return tuple(shape for each, shape in self._held if each is owner)

    def get(self, key: Key) -> Recording | None:
        """Return a recording, which is the last used one from now on; None if it is not held."""
        recording = self._held.get(key)
        if recording is not None:
            self._held.move_to_end(key)
        return recording

    def may_make(self, key: Key) -> bool:
        """Return whether a recording was not given up."""
        return key not in self._evicted

    def make(
        self, key: Key, forward: ForwardFunction, pixels: Tensor, sizes: Tensor
    ) -> Recording | None:
        """Record a batch; return None, and give the recording up, if it alone exceeds the limit.

        Raises:
            StepError: if it fails.
            torch.OutOfMemoryError: if the device has no room for it, even without the others.
            DeviceLostError: if the device does not work any more.
        """
        self._record(key, forward, pixels, sizes)
        while self.held_bytes > self._max_bytes and len(self._held) > 1:
            self._held.popitem(last=False)
        if self.held_bytes > self._max_bytes:
            # The pool keeps the memory of dropped recordings; only an empty one can be freed.
            self._drop_all()
            self._record(key, forward, pixels, sizes)
        if self.held_bytes > self._max_bytes:
            self._drop_all()
            self._evicted.add(key)
            logger.warning("A batch of shape %s is too large to be recorded.", tuple(key[1]))
        return self._held.get(key)

    def evict(self, keys: Collection[Key] = ()) -> set[Key]:
        """Give up recordings; return which.

        Args:
            keys: those to give up; without any, the half that was not used for the longest.
        """
        chosen = {*(keys or self._oldest_half())}
        self._evicted |= chosen
        self._drop(chosen)
        shapes = sorted(tuple(shape) for _, shape in chosen)
        logger.warning("Recordings are given up for the device's memory: %s.", shapes)
        return chosen

    def readmit(self, keys: Collection[Key]) -> None:
        """Let recordings be made again that were given up in vain."""
        self._evicted.difference_update(keys)

    def forget(self, owner: object) -> None:
        """Drop an owner's recordings; they may be made again."""
        self._evicted = {key for key in self._evicted if key[0] is not owner}
        self._drop({(owner, shape) for shape in self.shapes_of(owner)})

    def _record(self, key: Key, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> None:
        """Record; without memory for it, once more with nothing else in the pool."""
        oldest = self._oldest_half()
        try:
            self._record_once(key, forward, pixels, sizes)
        except torch.OutOfMemoryError:
            if not oldest:
                raise
            self.evict(oldest)
            try:
                self._record_once(key, forward, pixels, sizes)
            except torch.OutOfMemoryError:
                self.readmit(oldest)
                raise

    def _record_once(
        self, key: Key, forward: ForwardFunction, pixels: Tensor, sizes: Tensor
    ) -> None:
        try:
            with failing_as(StepError):
                recording = self._recorder.record(forward, pixels, sizes)
        except (StepError, torch.OutOfMemoryError):
            self._drop_all()  # the pool of a capture that failed cannot be used
            raise
        self._held[key] = recording
        self._pool_bytes += recording.pool_growth_bytes

    def _oldest_half(self) -> list[Key]:
        return list(self._held)[: (len(self._held) + 1) // 2]

    def _drop(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._held.pop(key, None)
        if not self._held:
            self._drop_all()

    def _drop_all(self) -> None:
        self._held.clear()
        self._pool_bytes = 0
        self._recorder.new_pool()
