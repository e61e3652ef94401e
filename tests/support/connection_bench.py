"""Connections of clients to an HTTP worker, on a clock that the test advances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from service.web.http.connections import Connection
from service.web.http.open_connections import OpenConnections

IDLE_SECONDS = 75

Application = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


@dataclass
class Timer:
    moment: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """Runs tasks as usual, and timers when the test advances the clock."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer(self.now + seconds, lambda: call(*arguments))
        self.timers.append(timer)
        return timer

    def time(self) -> float:
        return self.now

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = [each for each in self.timers if each.moment <= until and not each.cancelled]
            if not due:
                break
            first = min(due, key=lambda timer: timer.moment)
            self.timers.remove(first)
            self.now = first.moment
            first.call()
        self.now = until


@dataclass
class Transport(asyncio.Transport):
    """A client that reads everything at once but ``unread`` bytes."""

    written: bytearray = field(default_factory=bytearray)
    closing: bool = False
    aborted: bool = False
    half_closed: bool = False
    reading: bool = True
    unread: int = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def ending(self) -> bool:
        """Whether nothing more is sent to the client."""
        return self.closing or self.half_closed

    @property
    def status(self) -> int:
        return int(self.written.split()[1])


class ConnectionBench:
    """Clients of one HTTP worker.

    Args:
        application: answers; without one the bench reads each body and says ok.
        limit: of connections.
    """

    def __init__(self, application: Application | None = None, limit: int = 10) -> None:
        self.loop = Loop()
        self.open_connections = OpenConnections(limit)
        self.bodies: list[bytes] = []
        self.config = Config(
            application or self.answer,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=IDLE_SECONDS,
        )
        self.config.load()
        self.state = ServerState()

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the body, and answer."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self) -> tuple[Connection, Transport]:
        loop: Any = self.loop
        connection = Connection(
            self.config, self.state, {}, loop, open_connections=self.open_connections
        )
        transport = Transport()
        connection.connection_made(transport)
        return connection, transport


async def run_tasks() -> None:
    """Let tasks of the event loop run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)
