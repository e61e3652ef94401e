"""Fakes of CUDA: the calls that captures make, in order, and a device that can be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch

from model.kernels.gpu.capture import capture_stream


class FakeStream:
    """A stream that nothing runs on."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def wait_stream(self, other: FakeStream) -> None:
        """Wait for nothing."""


class FakeGraph:
    """A graph that holds nothing."""

    def replay(self) -> None:
        """Launch nothing."""


class FakeCuda:
    """Stands for the CUDA functions of torch.

    Attributes:
        calls: captures, clearings and ends of allocations, in order.
        streams: all that were made.
        current: the thread's stream.
        capture_fails: whether the end of a capture raises, as PyTorch does after an illegal call.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.streams: list[FakeStream] = []
        self.default = self.current = FakeStream()
        self.capturing_on: list[FakeStream] = []
        self.capture_fails = False

    def note(self, call: str, *_: object) -> None:
        """Note a call."""
        self.calls.append(call)

    def new_stream(self, device: torch.device | None = None) -> FakeStream:
        """Make a stream."""
        self.streams.append(FakeStream(device))
        return self.streams[-1]

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        """Make a stream the current one."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def graph(self, graph: object, pool: object, stream: FakeStream, **_: object) -> Any:
        """Capture; after a failure the thread stays on the stream, as with PyTorch."""
        fake = self

        class Capture:
            def __enter__(self) -> None:
                self.before, fake.current = fake.current, stream
                fake.capturing_on.append(stream)
                fake.calls.append("capture")

            def __exit__(self, *_: object) -> None:
                if fake.capture_fails:
                    raise torch.AcceleratorError("operation failed due to a previous error")
                fake.current = self.before

        return Capture()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Return the fake, in the place of torch's functions."""
    fake = FakeCuda()
    capture_stream.cache_clear()
    functions: dict[str, object] = {
        "Stream": fake.new_stream,
        "stream": fake.stream,
        "current_stream": lambda _=None: fake.current,
        "graph": fake.graph,
        "CUDAGraph": FakeGraph,
        "synchronize": lambda _=None: None,
        "empty_cache": lambda: None,
        "memory_reserved": lambda _=None: 0,
        "graph_pool_handle": lambda: (0, 1),
    }
    for name, function in functions.items():
        monkeypatch.setattr(torch.cuda, name, function)
    for name, call in (
        ("_cuda_clearCublasWorkspaces", "clear"),
        ("_cuda_endAllocateToPool", "end allocation"),
        ("_cuda_releasePool", "release pool"),
    ):
        noting = partial(fake.note, call)
        monkeypatch.setattr(torch._C, name, noting, raising=False)
    yield fake
    capture_stream.cache_clear()


class FakeDevice:
    """A CUDA device that works until it is lost.

    Attributes:
        waits: how often it was waited for.
    """

    def __init__(self) -> None:
        self.waits = 0
        self._is_lost = False

    def lose(self, message: str = "CUDA error: an illegal memory access was encountered") -> None:
        """Fail as CUDA does, from now on."""
        self._is_lost = True
        raise torch.AcceleratorError(message)

    def synchronize(self, _: torch.device | None = None) -> None:
        """Wait, or fail as every call does after the first failure."""
        self.waits += 1
        if self._is_lost:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """Return a fake device, which torch waits for."""
    fake = FakeDevice()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    return fake
