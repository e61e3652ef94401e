"""uvicorn's connections with limits, so that slow or many clients cannot hold up a server.

uvicorn limits how long a connection may be idle. This file limits a request's head in time and
size, how long an answer may stay unread, and the number of connections. The time for a body is
limited by ``service.web.bodies``.
"""

from __future__ import annotations

import asyncio
import resource
import uuid
from collections import OrderedDict
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service import metrics
from service.api.errors import (
    HeadTimeoutError,
    HeadTooLargeError,
    MalformedRequestError,
    ServiceError,
)
from service.web.http.problems import problem_response

HEAD_SECONDS = 10.0
"""Seconds allowed from the first byte of a request to the end of its headers."""

MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of a request's first line and headers, or of trailers and anything else outside a
body. The read that ends a head is not counted."""

UNREAD_SECONDS = 10.0
"""Seconds after which a connection is cut if the client has read nothing of its answer."""

MAX_CONNECTIONS = 4096
"""Maximum connections of an HTTP worker, if the system allows twice as many file descriptors."""

CROWDED, UNREAD = "crowded", "answer-unread"
CUT_REASONS = (
    CROWDED,
    UNREAD,
    *(error.slug for error in (HeadTimeoutError, HeadTooLargeError, MalformedRequestError)),
)
"""Reasons for which the service ends connections; labels of ``metrics.CONNECTIONS_CUT``."""


class OpenConnections:
    """The connections of one HTTP worker.

    Args:
        limit: most connections; a new one beyond it replaces the one that was idle the longest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()

    def add(self, connection: Connection) -> None:
        """Register a new connection; cut the longest idle one if there are too many."""
        self._open.add(connection)
        self.mark_idle(connection)
        if len(self._open) > self._limit:
            longest_idle = next(iter(self._idle))
            longest_idle.cut(CROWDED)
        metrics.CONNECTIONS.set(len(self._open))

    def mark_idle(self, connection: Connection) -> None:
        """Note that a connection has no request to answer."""
        self._idle[connection] = None

    def mark_busy(self, connection: Connection) -> None:
        """Note that a connection has a request to answer."""
        self._idle.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Unregister a connection."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        metrics.CONNECTIONS.set(len(self._open))

    @staticmethod
    def for_this_process() -> OpenConnections:
        """Raise the limit on file descriptors as far as allowed, and derive the limit from it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MAX_CONNECTIONS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return OpenConnections(MAX_CONNECTIONS if soft < 0 else min(MAX_CONNECTIONS, soft // 2))


class Connection(HttpToolsProtocol):
    """A client's connection.

    uvicorn constructs it with the arguments of its own class; ``open_connections``, the
    registry of the worker's connections, is bound in advance.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        open_connections: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._open_connections = open_connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._bytes_since_body = 0
        self._replaying_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection and wait for its first request."""
        super().connection_made(transport)
        if self.client is not None:
            # A client by IPv4 of a listener for both families; trusted proxies are listed by IPv4.
            self.client = self.client[0].removeprefix("::ffff:"), self.client[1]
        self._wait_for_request()
        self._open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and cancel its timers."""
        self._open_connections.remove(self)
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        # uvicorn leaves this one behind when a connection breaks.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def cut(self, reason: str) -> None:
        """Abort the connection without an answer."""
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        self._open_connections.remove(self)
        self.transport.abort()

    # Receiving.

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head or trailers that are too large."""
        self._unset_keepalive_if_required()
        self._bytes_since_body += len(data)
        self._parse(data)
        if self._bytes_since_body > MAX_HEAD_BYTES:
            self._refuse(HeadTooLargeError(limit_bytes=MAX_HEAD_BYTES))
        elif not self._answering and self._head_timer is None:
            self._wait_for_request()  # the data were line breaks, which may precede a request

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            self._parse(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(MalformedRequestError("This is no valid HTTP/1.1 request."))

    def _decline_upgrade(self) -> None:
        """Continue in HTTP/1.1 after a head that offers an upgrade, as Java's client sends it.

        The parser takes the upgrade as accepted and would lose the body. A new parser is fed an
        equivalent head, after which it expects the same body.
        """
        self.parser = httptools.HttpRequestParser(self)
        self._replaying_head = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + self._framing + b"\r\n")
        self._replaying_head = False

    @property
    def _framing(self) -> bytes:
        """Headers that tell where the body ends; empty without a body."""
        return b"".join(
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in {b"content-length", b"transfer-encoding"}
        )

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        if not self._replaying_head:
            super().on_url(url)

    def on_message_begin(self) -> None:
        """Start the timer of the head."""
        if self._replaying_head:
            return
        super().on_message_begin()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_head_timeout)

    def on_headers_complete(self) -> None:
        """Stop the timer of the head and begin to answer."""
        if self._replaying_head:
            return
        self._stop_head_timer()
        self._bytes_since_body = 0
        self._open_connections.mark_busy(self)
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; drop a trailer, which no route reads."""
        if self._head_timer is not None:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Complete the request."""
        if self.parser.should_upgrade() and self._framing:
            return  # the parser stops at an upgrade, before the body
        self._bytes_since_body = 0
        super().on_message_complete()

    def _wait_for_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        if self._answering:
            # The head was pipelined: the answer before it is still sent.
            self.cycle.keep_alive = False
        else:
            self._refuse(HeadTimeoutError(limit_seconds=HEAD_SECONDS))

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Sending.

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()
        elif not self._answering:
            self._open_connections.mark_idle(self)

    def pause_writing(self) -> None:
        """Pause the application while the client reads slowly, for a limited time."""
        super().pause_writing()
        self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection."""
        super().timeout_keep_alive_handler()
        self._watch_reader()

    def shutdown(self) -> None:
        """End the connection when its answer is sent."""
        super().shutdown()
        self._watch_reader()

    def _watch_reader(self) -> None:
        """Cut the connection once the client stops reading its answer."""
        if self._unread_timer is None:
            self._schedule_reader_check(self.transport.get_write_buffer_size())

    def _schedule_reader_check(self, unread_bytes: int) -> None:
        self._unread_timer = (
            self.loop.call_later(UNREAD_SECONDS, self._check_reader, unread_bytes)
            if unread_bytes
            else None
        )

    def _check_reader(self, unread_bytes: int) -> None:
        now_unread_bytes = self.transport.get_write_buffer_size()
        if now_unread_bytes < unread_bytes:
            self._schedule_reader_check(now_unread_bytes)
        else:
            self.cut(UNREAD)

    def _refuse(self, error: ServiceError) -> None:
        """Answer with a problem if an answer can still be sent, and end the connection."""
        if self.transport.is_closing():
            return
        if self._answering and self.cycle.response_started:
            self.cut(error.slug)
            return
        metrics.CONNECTIONS_CUT.labels(error.slug).inc()
        request_id = uuid.uuid4().hex
        response = problem_response(error, path="", request_id=request_id)
        headers = [
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        head = STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n"
        self.transport.write(head + bytes(response.body))
        self.transport.close()
        self._watch_reader()
