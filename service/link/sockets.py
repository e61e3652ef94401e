"""A ZeroMQ socket in an event loop.

Beside ``zmq.asyncio`` it has no queue of its own and no future for every message: what is there is
taken at once, and sending never waits, since the sockets' high-water marks are off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from service.link.messages import ToEngine, ToWorker, decode_to_engine, encode

if TYPE_CHECKING:
    from typing import Any

    Frame = bytes | memoryview[Any]
    from numpy.typing import NDArray

# Numbers, since operations on pyzmq's own enumerations take longer than the calls themselves.
_LAST_FRAME = int(zmq.DONTWAIT)
_MORE_FRAMES = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS, _MESSAGE = int(zmq.EVENTS), int(zmq.POLLIN)

BURST = 32
"""Messages that are taken in a row before others on the event loop get their turn."""


class Channel:
    """Sends and receives messages of several frames. For the event loop that runs when it is made.

    Args:
        socket: without high-water marks; closed with the channel.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._something_new = asyncio.Event()
        # It becomes readable when there is news for the socket, and not for as long as there are
        # messages: whoever looks has to take all of them.
        self._descriptor = socket.fileno()
        self._loop.add_reader(self._descriptor, self._something_new.set)

    def send(self, *frames: Frame) -> None:
        """Send a message.

        Raises:
            zmq.ZMQError: as the socket refuses.
        """
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _MORE_FRAMES)
            self._socket.send(frames[-1], _LAST_FRAME)
        finally:
            # Sending takes note of the news, too, and the descriptor falls silent.
            if self._has_message():
                self._something_new.set()

    async def received(self) -> AsyncIterator[list[bytes]]:
        """Yield the messages, for ever."""
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
    """A message, who sent it, and the frames behind it."""

    worker: bytes
    message: ToEngine
    frames: tuple[bytes, ...]


class LinkServer:
    """Receives from every HTTP worker and sends to any of them.

    Args:
        address: path of the Unix socket; its directory is private to the service.
    """

    def __init__(self, address: Path) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        # The scheduler's queue is the bound; a second one here would only hide requests from it.
        socket.set_hwm(0)
        socket.setsockopt(zmq.LINGER, 0)
        # Say so when a worker is gone; by default what is meant for it vanishes.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A worker that reconnects keeps its identity.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        address.unlink(missing_ok=True)
        socket.bind(f"ipc://{address}")
        self._channel = Channel(socket)

    async def received(self) -> AsyncIterator[Received]:
        """Yield what arrives, for ever."""
        async for worker, header, *frames in self._channel.received():
            yield Received(worker, decode_to_engine(header), tuple(frames))

    def send(self, worker: bytes, message: ToWorker, arrays: Sequence[NDArray[Any]] = ()) -> bool:
        """Send to a worker; return False if it is gone, and what was meant for it dropped."""
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
