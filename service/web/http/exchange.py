"""One request and its answer: what ASGI's ``receive`` and ``send`` do on a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from service.web.http.incoming import Head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Scope
    from uvicorn.config import Config

BUFFERED_BYTES = 64 * 1024
"""Bytes of a body that wait for the application, beyond which nothing more is read."""

STATUS_START = b"HTTP/1.1 "
"""The beginning of every answer."""

STATUS_LINES = {status.value: f"{status} {status.phrase}\r\n".encode() for status in HTTPStatus}
"""The rest of an answer's first line."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

START_PIECES = ((STATUS_START[:5], 0.02), (STATUS_START[5:7], 0.5), (STATUS_START[7:], 0.0))
"""That beginning in pieces, and the seconds before the next piece."""

CLIENT_GONE = "service.client_gone"
"""Key of a scope's extension, a ``Watch``."""

Watch = Callable[[Callable[[], None] | None], None]
"""Takes what is called when the client leaves; None to call nothing any more."""

logger = logging.getLogger(__name__)


class ExchangeConnection(Protocol):
    """The connection as an exchange sees it."""

    writable: asyncio.Event

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def resume_reading(self) -> None:
        """Read on after a pause."""

    def can_stay_open(self) -> bool:
        """Return whether another request can follow this one."""

    def on_answered(self) -> None:
        """Continue with the next request, or end the connection."""

    def on_unanswered(self, exchange: Exchange) -> None:
        """End a connection on which a request was left without a complete answer."""


class Exchange:
    """A request and its answer.

    Args:
        connection: which it came on.
        head: the request's.

    Attributes:
        keep_alive: whether the connection may stay open; decided when the answer begins.
        awaits_continue: whether the client holds its body back.
        body_complete: whether all of the body has arrived.
        disconnected: whether nothing can be sent any more, since the client has left, or was
            answered in another way.
        truncated: whether the client has ended its side before its body was complete.
        started: whether the answer has begun.
        ended: whether it is complete.
        sent_of_start: bytes of ``STATUS_START`` that were sent before the answer began.
    """

    def __init__(self, connection: ExchangeConnection, head: Head) -> None:
        self._connection = connection
        self._answers_head_only = head.method == b"HEAD"
        self._version = head.version
        self.keep_alive = head.keeps_alive
        self.awaits_continue = head.expects_continue
        self.body_complete = self.disconnected = self.truncated = False
        self.started = self.ended = False
        self.sent_of_start = 0
        self._parts: list[bytes] = []
        self._buffered_bytes = 0
        self._news = asyncio.Event()
        self._on_client_gone: Callable[[], None] | None = None
        self._answer_head = b""
        self._left_bytes: int | None = None
        self._chunked = False

    # What the connection tells.

    def feed(self, data: bytes) -> bool:
        """Take a part of the body; return whether the connection should stop reading for now."""
        self.awaits_continue = False
        if self._nothing_follows:
            return False
        self._parts.append(data)
        self._buffered_bytes += len(data)
        self._news.set()
        return self._buffered_bytes > BUFFERED_BYTES

    def end_body(self) -> None:
        """Note that all of the body has arrived."""
        self.body_complete = True
        self.awaits_continue = False
        self._news.set()

    def disconnect(self) -> None:
        """Send nothing any more, and tell the application that the client has left."""
        self.disconnected = True
        self._parts.clear()
        self._news.set()
        if self._on_client_gone is not None:
            self._on_client_gone()

    def truncate(self) -> None:
        """Note that the body will never be complete, though the client may wait for an answer."""
        self.truncated = True
        self.awaits_continue = False
        self._news.set()

    def start_early(self, loop: asyncio.AbstractEventLoop, step: int = 0) -> None:
        """Learn whether a client that has ended its side of the connection is still there.

        It may have left, or wait for its answer. So it is sent the beginning that all answers have:
        a client that has left rejects the first piece, after which the next cannot be sent.
        """
        if self.started or self.disconnected:
            return
        piece, wait_seconds = START_PIECES[step]
        self._connection.write(piece)
        self.sent_of_start += len(piece)
        if step + 1 < len(START_PIECES):
            loop.call_later(wait_seconds, self.start_early, loop, step + 1)

    @property
    def _nothing_follows(self) -> bool:
        return self.disconnected or self.truncated or self.ended

    # What the application calls.

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application."""
        scope["extensions"] = {CLIENT_GONE: self.watch_client}
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            logger.exception("The application failed outside of its own middleware.")
        finally:
            if not self.ended:
                self._connection.on_unanswered(self)

    async def receive(self) -> Message:
        """Return the next part of the body, or that the client has left."""
        if self.awaits_continue and not (self.started or self._nothing_follows):
            self._connection.write(CONTINUE)
            self.awaits_continue = False
        if not self._nothing_follows:
            self._connection.resume_reading()
            await self._news.wait()
            self._news.clear()
        if self._nothing_follows:
            return {"type": "http.disconnect"}
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    def watch_client(self, on_client_gone: Callable[[], None] | None) -> None:
        """Call something when the client leaves, without ``receive``."""
        self._on_client_gone = on_client_gone
        if on_client_gone is not None and self._nothing_follows:
            on_client_gone()

    async def send(self, message: Message) -> None:
        """Send a part of the answer; wait while the client reads slowly."""
        if not self._connection.writable.is_set():
            await self._connection.writable.wait()
        if self.disconnected:
            return
        if not self.started:
            self._start(message["status"], message.get("headers", ()))
        elif not self.ended:
            self._send_body(message.get("body", b""), ends=not message.get("more_body", False))
        else:
            raise RuntimeError("The answer is already complete.")

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Form the answer's head, which is sent together with the first part of its body."""
        self.started = True
        self.keep_alive = self.keep_alive and self._connection.can_stay_open()
        lines = [STATUS_START + STATUS_LINES[status]]
        for name, value in (*self._connection.default_headers, *headers):
            if name == b"content-length":
                self._left_bytes = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if self._answers_head_only or status in {204, 304}:
            self._left_bytes = 0
        elif self._left_bytes is None:
            # An answer in HTTP/1.0 ends with its connection.
            self._chunked = self._version == "1.1"
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self._answer_head = b"".join((*lines, b"\r\n"))[self.sent_of_start :]
        if self._answer_head.count(b"\n") != len(lines) + 1:
            raise RuntimeError("A header of the answer has a line break.")

    def _send_body(self, body: Any, *, ends: bool) -> None:
        if self._answers_head_only:
            body = b""
        if self._chunked:
            last = b"0\r\n\r\n" if ends else b""
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + last
        elif self._left_bytes is not None:
            self._left_bytes -= len(body)
            if self._left_bytes < 0 or (ends and self._left_bytes):
                raise RuntimeError("The answer is not as long as its Content-Length.")
        # As one piece while copying costs less than another call.
        if len(body) > BUFFERED_BYTES:
            self._connection.write(self._answer_head)
            self._connection.write(body)
        else:
            self._connection.write(self._answer_head + body)
        self._answer_head = b""
        if ends:
            self.ended = True
            self._news.set()
            self._connection.on_answered()


def scope_of(head: Head, config: Config, state: dict[str, Any]) -> dict[str, Any]:
    """Return a request as ASGI describes it, without the addresses.

    Args:
        head: the request's.
        config: uvicorn's.
        state: of the application's lifespan; each request has a copy.
    """
    root_path = config.root_path
    return {
        "type": "http",
        "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
        "http_version": head.version,
        "scheme": "http",
        "method": head.method.decode("ascii"),
        "root_path": root_path,
        "path": root_path + head.path,
        "raw_path": root_path.encode("ascii") + head.raw_path,
        "query_string": head.query,
        "headers": head.headers,
        "state": state.copy(),
    }
