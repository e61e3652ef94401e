"""Recordings of a forward pass: its kernels' calls, made again by one call.

For one image Python and the start of each kernel's threads take as long as some of the kernels. A
recording replays all calls between two of PyTorch's operators at once, on the memory that it was
made with; the few operators that remain are called again. So the network is defined once, by its
Python code.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from model.kernels.cpu.launch import noting
from model.kernels.cpu.library import native_library

aten = torch.ops.aten

ALLOCATIONS = frozenset({aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default})

VIEWS = frozenset(
    {
        aten.detach.default,
        aten.expand.default,
        aten.permute.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.t.default,
        aten.transpose.int,
        aten.unsqueeze.default,
        aten.view.default,
    }
)
"""Not all views: ``lift_fresh`` is one of a constant that is made in the pass, and goes with it."""

REPEATED = frozenset(
    {
        aten._adaptive_avg_pool2d.default,
        aten.addmm.default,
        aten.clone.default,
        aten.mean.dim,
        aten.silu.default,
        aten.upsample_bilinear2d.default,
    }
)
"""Operators that a replay calls again: each makes one new tensor from its arguments alone. A pass
with any other that computes is not recorded."""

MOST_ARGUMENTS = 15
ALIGNMENT = 64
"""Of tensors, bytes, as of PyTorch's."""


class PassMemoryError(Exception):
    """The pass needs more memory than there is for it."""


class UnrecordedOperatorError(Exception):
    """The pass has an operator that a replay cannot call again; the message names it."""


class _Step(ctypes.Structure):
    """``step_t`` of ``native/replay.c``."""

    _fields_ = (("run", ctypes.c_void_p), ("arguments", ctypes.c_int64 * MOST_ARGUMENTS))


@dataclass(frozen=True)
class _OperatorCall:
    """A call of one of PyTorch's operators, with the tensor that it made."""

    function: OpOverload[..., Tensor]
    arguments: Sequence[Any]
    options: Mapping[str, Any]
    result: Tensor

    @property
    def held_bytes(self) -> int:
        return self.result.nbytes

    def repeatable(self) -> Callable[[], None]:
        return self._repeat

    def _repeat(self) -> None:
        self.result.copy_(self.function(*self.arguments, **self.options))


class _Kernels:
    """Calls of kernels that follow each other."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def add(self, name: str, arguments: tuple[int | None, ...]) -> None:
        # Its address, not the function: a call of it through ctypes would be a pass's cost.
        function = getattr(native_library(), f"{name}_step")
        words = (int(each or 0) for each in arguments)
        run = ctypes.cast(function, ctypes.c_void_p).value
        self._steps.append(_Step(run, (ctypes.c_int64 * MOST_ARGUMENTS)(*words)))

    @property
    def held_bytes(self) -> int:
        return len(self._steps) * ctypes.sizeof(_Step)

    def repeatable(self) -> Callable[[], None]:
        steps = (_Step * len(self._steps))(*self._steps)
        replay = native_library().overlock_replay

        def repeat() -> None:
            replay(ctypes.addressof(steps), len(steps))

        return repeat


class PassMemory:
    """Memory for the tensors of passes: what one of them leaves is given to the next.

    So recordings take what the largest pass needs at once, not the sum of their tensors. They may
    share it if only one of them is replayed at a time.

    Args:
        max_bytes: most that they take together; pages are the machine's until they are used.

    Attributes:
        held_bytes: used by passes so far.
    """

    def __init__(self, max_bytes: int) -> None:
        # Private: pages that are given back are free then, and a forked process has its own.
        self._pages = mmap.mmap(-1, max(1, max_bytes), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._bytes = np.frombuffer(self._pages, np.uint8)
        self._ends: dict[int, int] = {}  # of the tensors' places, by their beginnings
        self.held_bytes = 0

    def tensor_like(self, blank: Tensor) -> Tensor:
        """Return a tensor of the same shape, dtype and strides, uninitialised.

        Raises:
            PassMemoryError: if there is no room.
        """
        place = self._place(blank.nbytes)
        # The tensor's storage holds this array until no tensor uses it.
        array = self._bytes[place : place + blank.nbytes]
        weakref.finalize(array, self._ends.pop, place).atexit = False
        return torch.from_numpy(array).view(blank.dtype).as_strided(blank.shape, blank.stride())

    def trim(self) -> None:
        """Give the pages behind the last tensor back."""
        self.held_bytes = max(self._ends.values(), default=0)
        first = self.held_bytes + -self.held_bytes % mmap.PAGESIZE
        if first < len(self._pages):
            self._pages.madvise(mmap.MADV_DONTNEED, first)

    def _place(self, count: int) -> int:
        """Return the lowest place, which was used last: it is in the cache."""
        count += -count % ALIGNMENT
        place = 0
        for begin, end in sorted(self._ends.items()):
            if begin - place >= count:
                break
            place = end
        if place + count > len(self._bytes):
            raise PassMemoryError
        self._ends[place] = place + count
        self.held_bytes = max(self.held_bytes, place + count)
        return place


class _Recorder(TorchDispatchMode):
    """Notes what a pass calls, and gives its tensors their memory."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # It would have PyTorch's compiler imported, which takes more memory than all recordings.
        return False

    def __init__(self, memory: PassMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = memory
        self.calls: list[_Kernels | _OperatorCall] = []
        self.unrecorded = ""

    def __torch_dispatch__(
        self,
        function: OpOverload[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        options = kwargs or {}
        made = function(*args, **options)
        if function in ALLOCATIONS:
            return self.memory.tensor_like(made)
        if function in REPEATED:
            self.calls.append(_OperatorCall(function, args, options, made))
        elif function not in VIEWS:
            self.unrecorded = str(function)
        return made

    def note(self, name: str, arguments: tuple[int | None, ...]) -> None:
        """Note a call of a kernel."""
        if not self.calls or not isinstance(self.calls[-1], _Kernels):
            self.calls.append(_Kernels())
        cast("_Kernels", self.calls[-1]).add(name, arguments)


class Recording:
    """A pass of one input shape that is made again without its Python code.

    Not for several threads at once: replays share their memory. The number of threads that compute
    is the present one at every replay.

    Args:
        forward: from images to one tensor. The values of tensors decide nothing in it, except
            through kernels and operators; its constants are made before, and stay where they are.
        images: an example.
        memory: for its tensors; shared with recordings that are not replayed at the same time.

    Attributes:
        held_bytes: memory beside that of ``memory``.

    Raises:
        UnrecordedOperatorError: if the pass has an operator that a replay cannot call again.
        PassMemoryError: if its tensors need more memory.
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor], images: Tensor, memory: PassMemory
    ) -> None:
        recorder = _Recorder(memory)
        # Tensors of inference mode could not be written outside of it.
        with torch.inference_mode(mode=False), torch.no_grad():
            self._images = torch.empty_like(images, memory_format=torch.channels_last)
            self._images.copy_(images)
            with recorder, noting(recorder.note):
                self._output = forward(self._images)
        if recorder.unrecorded:
            raise UnrecordedOperatorError(recorder.unrecorded)
        self._memory = memory  # kept as long as the steps that point into them
        self._calls = [call.repeatable() for call in recorder.calls]
        self.held_bytes = self._images.nbytes + sum(call.held_bytes for call in recorder.calls)

    @property
    def output(self) -> Tensor:
        """The last output, as it was recorded or replayed."""
        return self._output.clone()

    def replay(self, images: Tensor) -> Tensor:
        """Compute the output for images of the same shape and dtype."""
        with torch.no_grad():
            self._images.copy_(images)
            for call in self._calls:
                call()
            return self.output
