"""Messages on Unix sockets of the event loop, and the engine's end of the link.

A message is a header and arrays. It begins with the number of these frames and the size of each, in
64 bits, little endian; the frames follow. Sending never waits: the scheduler bounds the requests,
and a second bound here would only hide some of them from it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from service.link.messages import (
    Answer,
    ArrayHeader,
    InferenceResult,
    ToEngine,
    ToWorker,
    decode_to_engine,
    encode,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEND_BUFFER_BYTES = 1024 * 1024
"""Wanted for what the other side has not received yet; the kernel has a limit of its own."""

BACKLOG = 128

BURST = 32
"""Messages taken in a row before the event loop runs its other tasks."""

ARRIVALS_BYTES = 32 * 1024
"""Bytes that are received at once, and copied; the rest of a larger frame arrives in place."""

MAX_FRAMES = 1024

_COUNT = struct.Struct("<Q")


def frames_of(header: bytes, arrays: Sequence[NDArray[Any]] = ()) -> list[bytes | memoryview]:
    """Return the buffers of a message, to be sent one after the other.

    Args:
        header: the first frame.
        arrays: the others; not copied if they are contiguous.
    """
    views = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays]
    sizes = (len(header), *map(len, views))
    return [struct.pack(f"<{1 + len(sizes)}Q", len(sizes), *sizes) + header, *views]


class FrameReader:
    """Makes messages of the bytes of a stream.

    Fill the start of ``buffer()``, and then report how much of it with ``filled()``.
    """

    def __init__(self) -> None:
        self._arrivals = memoryview(bytearray(ARRIVALS_BYTES))
        self._held_bytes = 0  # of an incomplete prefix
        self._frames: list[memoryview] = []  # of the message that is arriving
        self._number = self._missing_bytes = 0  # of the frame that is arriving
        self._in_place = False

    def buffer(self) -> memoryview:
        """Return where the next bytes belong; never empty."""
        self._in_place = self._missing_bytes > ARRIVALS_BYTES
        if self._in_place:
            return self._frames[self._number][-self._missing_bytes :]
        return self._arrivals[self._held_bytes :]

    def filled(self, count: int) -> list[list[memoryview]]:
        """Take the bytes at the start of ``buffer()``.

        Returns:
            The messages that they complete, each as its frames. Nothing else refers to their
            memory.

        Raises:
            ValueError: if the stream is not made of messages.
        """
        if self._in_place:
            self._missing_bytes -= count
            arrived = self._arrivals[:0]
        else:
            arrived = self._arrivals[: self._held_bytes + count]
        self._held_bytes = 0
        messages = []
        while arrived or self._in_place:
            self._in_place = False
            if not self._frames:
                prefix_bytes = self._take_prefix(arrived)
                if not prefix_bytes:
                    self._held_bytes = len(arrived)
                    # The bytes move within one buffer, and are copied first.
                    self._arrivals[: self._held_bytes] = bytes(arrived)
                    break
                arrived = arrived[prefix_bytes:]
            arrived = self._take_frames(arrived)
            if self._number == len(self._frames):
                messages.append(self._frames)
                self._frames = []
        return messages

    def _take_prefix(self, arrived: memoryview) -> int:
        """Begin a message; return the size of its prefix, or 0 if that is not complete."""
        if len(arrived) < _COUNT.size:
            return 0
        (count,) = _COUNT.unpack_from(arrived)
        if not 0 < count <= MAX_FRAMES:
            raise ValueError(f"A message has {count} frames.")
        prefix_bytes = _COUNT.size * (1 + int(count))
        if len(arrived) < prefix_bytes:
            return 0
        sizes = struct.unpack_from(f"<{count}Q", arrived, _COUNT.size)
        self._frames = [np.empty(size, np.uint8).data for size in sizes]
        self._number, self._missing_bytes = 0, sizes[0]
        return prefix_bytes

    def _take_frames(self, arrived: memoryview) -> memoryview:
        """Copy what has arrived into the message's frames; return the rest."""
        while True:
            count = min(len(arrived), self._missing_bytes)
            frame = self._frames[self._number]
            start = len(frame) - self._missing_bytes
            frame[start : start + count] = arrived[:count]
            self._missing_bytes -= count
            arrived = arrived[count:]
            if self._missing_bytes:
                return arrived
            self._number += 1
            if self._number == len(self._frames):
                return arrived
            self._missing_bytes = len(self._frames[self._number])


class Channel(asyncio.BufferedProtocol):
    """A connection that carries messages.

    Args:
        on_message: called with each message's frames.
        on_lost: called once when the connection has ended.
    """

    def __init__(
        self, on_message: Callable[[list[memoryview]], None], on_lost: Callable[[], None]
    ) -> None:
        self._on_message, self._on_lost = on_message, on_lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, header: bytes, arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Send a message; it is lost if the connection ends.

        Args:
            header: the first frame.
            arrays: the others; they must not change any more.
        """
        self.write(frames_of(header, arrays))

    def write(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send the frames of messages."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frames)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong."""
        del sizehint  # of any size
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes."""
        for message in self._reader.filled(nbytes):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc  # the other process is gone, whatever the reason
        self._transport = None
        self._on_lost()


@dataclass(frozen=True)
class Received:
    """A message, its sender, and the frames behind it."""

    worker: bytes
    message: ToEngine
    frames: tuple[memoryview, ...]


class LinkServer:
    """The engine's end: receives from every HTTP worker and sends to any of them.

    A worker's first message is its name; one that connects again keeps it.

    Args:
        address: path of the Unix socket; its directory is private to the service.
    """

    def __init__(self, address: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        address.unlink(missing_ok=True)
        self._listener.bind(str(address))
        self._listener.listen(BACKLOG)
        self._channels: dict[bytes, Channel] = {}
        self._nameless: set[Channel] = set()
        self._arrived: deque[tuple[bytes, list[memoryview]]] = deque()
        self._news = asyncio.Event()

    async def received(self) -> AsyncIterator[Received]:
        """Accept connections, and yield messages as they arrive, until cancelled."""
        loop = asyncio.get_running_loop()
        async with await loop.create_unix_server(self._new_channel, sock=self._listener):
            while True:
                await self._news.wait()
                self._news.clear()
                taken = 0
                while self._arrived:
                    worker, (header, *frames) = self._arrived.popleft()
                    yield Received(worker, decode_to_engine(header), tuple(frames))
                    taken += 1
                    if taken % BURST == 0:
                        await asyncio.sleep(0)

    def send(self, worker: bytes, *messages: tuple[ToWorker, Sequence[NDArray[Any]]]) -> bool:
        """Send messages, each with its arrays, by one call; return False if the worker is gone."""
        channel = self._channels.get(worker)
        if channel is None or not channel.is_open:
            return False
        frames = [frames_of(encode(message), arrays) for message, arrays in messages]
        channel.write([*itertools.chain.from_iterable(frames)])
        return True

    def close(self) -> None:
        """Stop listening, and end all connections."""
        self._listener.close()
        for channel in (*self._channels.values(), *self._nameless):
            channel.close()

    def _new_channel(self) -> Channel:
        names: list[bytes] = []

        def take(frames: list[memoryview]) -> None:
            if names:
                self._arrived.append((names[0], frames))
                self._news.set()
                return
            names.append(bytes(frames[0]))
            self._nameless.discard(channel)
            self._channels[names[0]] = channel

        def forget() -> None:
            self._nameless.discard(channel)
            if names and self._channels.get(names[0]) is channel:
                del self._channels[names[0]]

        channel = Channel(take, forget)
        self._nameless.add(channel)
        return channel


def header_of(array: NDArray[Any]) -> ArrayHeader:
    """Describe an array that is sent as a frame."""
    return ArrayHeader(shape=array.shape, dtype=array.dtype.str)


def array_from(header: ArrayHeader, frame: bytes | memoryview) -> NDArray[Any]:
    """View a frame as the array it holds, without a copy.

    Raises:
        ValueError: if the frame's size is not that of the header.
    """
    dtype = np.dtype(header.dtype)
    if math.prod(header.shape) * dtype.itemsize != len(frame):
        raise ValueError(
            f"A frame of {len(frame)} bytes cannot hold a {header.shape} array of {dtype}."
        )
    return np.frombuffer(frame, dtype).reshape(header.shape)


def inference_result(answer: Answer, frames: Sequence[memoryview]) -> InferenceResult:
    """Return the result in an answer, whose arrays are views of the frames."""
    arrays = tuple(
        array_from(header, frame) for header, frame in zip(answer.arrays, frames, strict=True)
    )
    return InferenceResult(
        arrays, answer.queue_seconds, answer.inference_seconds, answer.batch_size
    )
