"""A device that does its work late: when it is waited for, in the order in which it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from model.inference.copies import Arrival, Mark
from model.inference.recordings import Recording
from model.inference.static_module import ForwardFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray

LATE = {
    torch.ops.aten.copy_.default,
    torch.ops.aten._foreach_copy_.default,
    torch.ops.aten.zero_.default,
}
"""Operators that write to memory of the device, where it has some already."""


class DelayedDevice(TorchDispatchMode):
    """A stream: inside of it nothing that is written is there until the stream is waited for.

    Attributes:
        work: what is left to do, the first of it first.
        done: how much was done.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[Callable[[], object]] = []
        self.done = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = partial(func, *args, **(kwargs or {}))
        if func not in LATE:
            return call()
        self.work.append(call)
        return None if isinstance(args[0], list) else args[0]

    def run(self, until: int) -> None:
        """Do the first work until so much was done in all."""
        with torch.inference_mode(), _disable_current_modes():
            while self.done < until:
                self.work.pop(0)()
                self.done += 1


class _Place:
    """A place in the stream."""

    number = 0

    def __init__(self, device: DelayedDevice) -> None:
        self._device = device
        self._until = device.done + len(device.work)

    def query(self) -> bool:
        return self._device.done >= self._until

    def synchronize(self) -> None:
        self._device.run(self._until)

    def wait(self) -> None:
        """Be in the stream's order anyway."""


class DelayedCopier:
    """Copies to and from the device; staged images arrive at once."""

    def __init__(self, device: DelayedDevice) -> None:
        self._device = device

    def send(self, image: NDArray[np.uint8]) -> tuple[Tensor, Arrival]:
        """Copy an image."""
        return torch.from_numpy(image.copy()), _Place(self._device)

    def pin(self, array: NDArray[Any]) -> Tensor:
        """Copy an array in the host's memory."""
        return torch.from_numpy(array.copy())

    def fetch(self, results: Sequence[Tensor]) -> list[Tensor]:
        """Copy results, late."""
        return [torch.empty_like(result).copy_(result) for result in results]

    def mark(self) -> Mark:
        """Mark a place in the stream."""
        return _Place(self._device)


class DelayedRecorder:
    """Recordings that run late."""

    def __init__(self, device: DelayedDevice) -> None:
        self._device = device

    def record(self, forward: ForwardFunction, pixels: Tensor, sizes: Tensor) -> Recording:
        """Make buffers that all replays share."""
        inputs = torch.zeros_like(pixels), torch.zeros_like(sizes)
        outputs = tuple(torch.empty_like(result) for result in forward(pixels, sizes))

        def run() -> None:
            for buffer, result in zip(outputs, forward(*inputs), strict=True):
                buffer.copy_(result)

        def replay() -> None:
            self._device.work.append(run)

        return Recording(inputs, outputs, replay, buffer_bytes=1, pool_growth_bytes=0)

    def new_pool(self) -> None:
        """Hold no memory."""
