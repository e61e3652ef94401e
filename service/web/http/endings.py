"""How a connection ends: closed, refused, cut, or once its client stops sending.

A connection that is closed with unread input is reset, and the client may lose the answer
(RFC 9112, section 9.6). So our side is ended first, and what the client still sends is dropped for
a while.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from service import metrics
from service.api.errors import MalformedRequestError, ServiceError
from service.web.http.exchange import Exchange
from service.web.http.incoming import Incoming
from service.web.http.open_connections import UNREAD, OpenConnections
from service.web.http.reading_clients import ReaderWatch
from service.web.http.refusals import refusal

LINGER_SECONDS = 30.0
"""Seconds for which a client may go on sending after its last answer."""

LINGER_BYTES = 256 * 2**20
"""Bytes that it may send meanwhile; one that sends more may lose its answer."""

QUIET_SECONDS = 5.0
"""Seconds without a byte after which nothing more is expected."""


class Lingering:
    """A connection whose last answer is sent.

    Args:
        transport: the connection's; our side of it is ended.
        loop: of the connection.
        close: closes the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._close = close
        self._dropped_bytes = self._seen_bytes = 0
        self._ends_at_seconds = loop.time() + LINGER_SECONDS
        self._timer = loop.call_later(QUIET_SECONDS, self._check)
        transport.write_eof()

    def drop(self, size_bytes: int) -> None:
        """Take note of bytes that the client sent."""
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > LINGER_BYTES:
            self._close()

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    def _check(self) -> None:
        quiet = self._dropped_bytes == self._seen_bytes
        if quiet or self._loop.time() >= self._ends_at_seconds:
            self._close()
        else:
            self._seen_bytes = self._dropped_bytes
            self._timer = self._loop.call_later(QUIET_SECONDS, self._check)


class EndingConnection(asyncio.Protocol, ABC):
    """The part of ``Connection`` that ends it; the other part takes requests and has the state."""

    writable: asyncio.Event
    _transport: asyncio.Transport
    _addresses: dict[str, tuple[str, int | None] | None]
    _loop: asyncio.AbstractEventLoop
    _open_connections: OpenConnections
    _incoming: Incoming
    _exchange: Exchange | None
    _client_is_done: bool
    _lingering: Lingering | None
    _reader: ReaderWatch | None

    @property
    @abstractmethod
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer, at this moment."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes."""

    @abstractmethod
    def _unregister(self) -> None:
        """Leave the registry of connections."""

    @abstractmethod
    def _take_nothing_more(self) -> None:
        """Forget what has arrived, and what is awaited; keep reading."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection when all is sent."""

    def cut(self, reason: str) -> None:
        """Abort the connection without an answer."""
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        self._unregister()
        self._transport.abort()

    def shutdown(self) -> None:
        """End the connection when its answer is sent; for uvicorn's server."""
        if self._exchange is not None:
            self._exchange.keep_alive = False
        elif self._lingering is None:
            self._close()

    def on_unanswered(self, exchange: Exchange) -> None:
        """End a connection on which a request was left without a complete answer."""
        if exchange is not self._exchange:
            return
        if exchange.started:
            self._transport.abort()
        elif exchange.truncated:
            self._refuse(MalformedRequestError("The body ends before it is complete."))
        else:
            self._refuse(ServiceError("The request was given up."))

    def _refuse(self, error: ServiceError, fault: Exception | None = None) -> None:
        """Answer with a problem if an answer can still be sent, and end the connection."""
        if self._transport.is_closing() or self._lingering is not None:
            return
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
            if exchange.started:
                self.cut(error.slug)
                return
        metrics.CONNECTIONS_CUT.labels(error.slug).inc()
        answers_head = exchange is None and self._incoming.pending.startswith(b"HEAD ")
        address = self._addresses["client"]
        answer = refusal(
            error,
            self.default_headers,
            client="unknown" if address is None else address[0],
            with_body=not answers_head,
            fault=fault,
        )
        self.write(answer[exchange.sent_of_start if exchange else 0 :])
        self._linger()

    def _finish(self) -> None:
        """End the connection after its last answer."""
        if self._incoming.body is None and not self._incoming.pending:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        """End our side, and drop what the client still sends."""
        if self._client_is_done:
            self._close()
            return
        self._take_nothing_more()
        self._lingering = Lingering(self._transport, self._loop, self._close)
        if self._transport.get_write_buffer_size():
            self._watch_reader()

    def pause_writing(self) -> None:
        """Pause the application while the client reads slowly, for a limited time."""
        self.writable.clear()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Let the application continue."""
        self.writable.set()

    def _watch_reader(self) -> None:
        if self._reader is None:
            cut = partial(self.cut, UNREAD)
            self._reader = ReaderWatch(self._transport, self._loop, self._open_connections, cut)
        self._reader.start()
