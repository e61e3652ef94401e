"""ZeroMQ sockets in an event loop, and the engine's end of the link.

Unlike ``zmq.asyncio`` a channel has no queue and no future for each message: arrived messages are
taken at once, and sending never waits, since the sockets' high-water marks are off.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

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

    Frame = bytes | memoryview[Any]

# Plain numbers: operations on pyzmq's enumerations take longer than the calls themselves.
_LAST_FRAME = int(zmq.DONTWAIT)
_MORE_FRAMES = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS, _MESSAGE = int(zmq.EVENTS), int(zmq.POLLIN)

BURST = 32
"""Messages taken in a row before the event loop runs its other tasks."""


class Channel:
    """Sends and receives messages of several frames, on the event loop that made it.

    Args:
        socket: without high-water marks; closed with the channel.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._something_new = asyncio.Event()
        # It becomes readable when something happens on the socket, and not for as long as there
        # are messages: each wake-up has to take all of them.
        self._descriptor = socket.fileno()
        self._loop.add_reader(self._descriptor, self._something_new.set)

    def send(self, *frames: Frame) -> None:
        """Send a message.

        Raises:
            zmq.ZMQError: if the socket refuses.
        """
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _MORE_FRAMES)
            self._socket.send(frames[-1], _LAST_FRAME)
        finally:
            # Sending also consumes the socket's events, after which the descriptor is silent.
            if self._has_message():
                self._something_new.set()

    async def received(self) -> AsyncIterator[list[bytes]]:
        """Yield messages as they arrive, until cancelled."""
        while True:
            self._something_new.clear()
            taken = 0
            while self._has_message():
                yield self._socket.recv_multipart(_LAST_FRAME)
                taken += 1
                if taken % BURST == 0:
                    await asyncio.sleep(0)
            await self._something_new.wait()

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._descriptor)
        self._socket.close()

    def _has_message(self) -> bool:
        return bool(int(self._socket.get(_EVENTS)) & _MESSAGE)


@dataclass(frozen=True)
class Received:
    """A message, its sender, and the frames behind it."""

    worker: bytes
    message: ToEngine
    frames: tuple[bytes, ...]


class LinkServer:
    """The engine's end: receives from every HTTP worker and sends to any of them.

    Args:
        address: path of the Unix socket; its directory is private to the service.
    """

    def __init__(self, address: Path) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        # The scheduler bounds the requests; a second queue here would only hide some from it.
        socket.set_hwm(0)
        socket.setsockopt(zmq.LINGER, 0)
        # Raise when a worker is gone; by default messages to it vanish.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A worker that reconnects keeps its identity.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        address.unlink(missing_ok=True)
        socket.bind(f"ipc://{address}")
        self._channel = Channel(socket)

    async def received(self) -> AsyncIterator[Received]:
        """Yield messages as they arrive, until cancelled."""
        async for worker, header, *frames in self._channel.received():
            yield Received(worker, decode_to_engine(header), tuple(frames))

    def send(self, worker: bytes, message: ToWorker, arrays: Sequence[NDArray[Any]] = ()) -> bool:
        """Send to a worker; return False if it is gone and the message was dropped."""
        try:
            self._channel.send(worker, encode(message), *(array.data for array in arrays))
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def close(self) -> None:
        """Stop listening."""
        self._channel.close()


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


def inference_result(answer: Answer, frames: Sequence[bytes]) -> InferenceResult:
    """Return the result in an answer, whose arrays are views of the frames."""
    arrays = tuple(
        array_from(header, frame) for header, frame in zip(answer.arrays, frames, strict=True)
    )
    return InferenceResult(
        arrays, answer.queue_seconds, answer.inference_seconds, answer.batch_size
    )
