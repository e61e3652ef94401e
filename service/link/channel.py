"""A ZeroMQ socket in an event loop.

Beside ``zmq.asyncio`` it has no queue of its own and no future for every message: what is there is
taken at once, and sending never waits, since the sockets' high-water marks are off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from typing import Any

    Frame = bytes | memoryview[Any]

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
