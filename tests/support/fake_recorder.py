"""A fake of CUDA graphs: recordings in the host's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.inference.recordings import Recording
from model.inference.static_module import ForwardFunction, Tensors

BUFFER_BYTES = 10


def double(pixels: Tensor, sizes: Tensor) -> Tensors:
    """Stand for a network."""
    return (pixels * 2, sizes)


def batch_of(count: int, value: int = 1) -> tuple[Tensor, Tensor]:
    """Return pixels of one value, and their sizes."""
    return torch.full((count, 2, 2, 3), value), torch.full((count, 2), 2)


@dataclass
class FakeRecorder:
    """Replays by running.

    Attributes:
        pool_bytes: memory that a batch of each size needs in the pool.
        recorded: batch sizes, as they were recorded, failures too.
        replayed: batch sizes, as they were replayed.
        fragmented: whether recordings cannot share their memory.
        room_bytes: of the device; more raises an error.
        pools: that there were.
    """

    pool_bytes: dict[int, int] = field(default_factory=dict)
    recorded: list[int] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)
    fragmented: bool = False
    room_bytes: float = float("inf")
    pools: int = 1
    pool: int = 0

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        """Run once, and remember the inputs."""
        count = len(pixels)
        self.recorded.append(count)
        inputs = (pixels.clone(), sizes.clone())
        outputs = tuple(torch.empty_like(result) for result in forward(*inputs))

        def replay() -> None:
            self.replayed.append(count)
            for buffer, result in zip(outputs, forward(*inputs), strict=True):
                buffer.copy_(result)

        needed = self.pool_bytes.get(count, 0)
        grown = needed if self.fragmented else max(needed - self.pool, 0)
        if self.pool + grown + BUFFER_BYTES > self.room_bytes:
            raise torch.OutOfMemoryError("no room")
        self.pool += grown
        return Recording(inputs, outputs, replay, BUFFER_BYTES, pool_growth_bytes=grown)

    def new_pool(self) -> None:
        """Free the pool."""
        self.pools, self.pool = self.pools + 1, 0
