"""The engine's end of the link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from service.link.channel import Channel
from service.link.messages import ToEngine, ToWorker, decode_to_engine, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
