"""A client's connection: uvicorn's, with bounds on what a client may keep a server waiting with.

uvicorn bounds how long a connection may be idle. Here are the bounds on a request's head, in time
and in size, on an answer that nobody reads, and on how many connections there are. The time for a
body is the application's to bound: see ``service.web.bodies``.
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
"""From the first byte of a request to the end of its headers."""

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's first line and headers, or of trailers and whatever else is no body; what comes
with them in one read is not counted."""

UNREAD_SECONDS = 10.0
"""An answer of which the client takes nothing for this long is not wanted."""

MAX_CONNECTIONS = 4096
"""Of an HTTP worker, where the system allows twice as many descriptors."""

CROWDED, UNREAD = "crowded", "answer-unread"
CUT_REASONS = (
    CROWDED,
    UNREAD,
    *(error.slug for error in (HeadTimeoutError, HeadTooLargeError, MalformedRequestError)),
)
"""Why connections are ended from here."""


class OpenConnections:
    """The connections of one HTTP worker.

    Args:
        limit: most of them; a new one takes the place of the one that was idle for the longest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()

    def opened(self, connection: Connection) -> None:
        """Take a new connection in."""
        self._open.add(connection)
        self.idles(connection)
        if len(self._open) > self._limit:
            longest_idle = next(iter(self._idle))
            longest_idle.cut(CROWDED)
        metrics.CONNECTIONS.set(len(self._open))

    def idles(self, connection: Connection) -> None:
        """Note that there is no request to answer on a connection."""
        self._idle[connection] = None

    def works(self, connection: Connection) -> None:
        """Note that there is one."""
        self._idle.pop(connection, None)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        metrics.CONNECTIONS.set(len(self._open))

    @staticmethod
    def for_this_process() -> OpenConnections:
        """Allow as many as there can be, and have the system allow more if it does."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MAX_CONNECTIONS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return OpenConnections(MAX_CONNECTIONS if soft < 0 else min(MAX_CONNECTIONS, soft // 2))


class Connection(HttpToolsProtocol):
    """One of them; uvicorn makes it as it makes its own, with ``others`` bound beforehand."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        others: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._others = others
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._bytes_since_body = 0
        self._catching_up = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request as for any other."""
        super().connection_made(transport)
        self._wait_for_request()
        self._others.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go."""
        self._others.closed(self)
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        # uvicorn leaves this one behind when a connection breaks.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def cut(self, reason: str) -> None:
        """End the connection, whatever is going on, without a word."""
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        self._others.closed(self)
        self.transport.abort()

    # What the client sends.

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse more than there may be of what is no body."""
        self._unset_keepalive_if_required()
        self._bytes_since_body += len(data)
        self._parse(data)
        if self._bytes_since_body > MAX_HEAD_BYTES:
            self._refuse(HeadTooLargeError(limit_bytes=MAX_HEAD_BYTES))
        elif not self._answering and self._head_timer is None:
            self._wait_for_request()  # line breaks before a request are no request

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            self._parse(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(MalformedRequestError("This is no valid HTTP/1.1 request."))

    def _decline_upgrade(self) -> None:
        """Go on with HTTP/1.1 behind a head that offered another protocol, as Java's client does.

        The parser takes an offer for a fact: what follows would be lost, the body first. Another
        one is brought to the same place.
        """
        self.parser = httptools.HttpRequestParser(self)
        self._catching_up = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + self._framing + b"\r\n")
        self._catching_up = False

    @property
    def _framing(self) -> bytes:
        """The headers that say where the body ends; none for no body."""
        return b"".join(
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in {b"content-length", b"transfer-encoding"}
        )

    def on_url(self, url: bytes) -> None:
        """Take a part of the first line."""
        if not self._catching_up:
            super().on_url(url)

    def on_message_begin(self) -> None:
        """Give the head its time."""
        if self._catching_up:
            return
        super().on_message_begin()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if self._catching_up:
            return
        self._end_of_head()
        self._bytes_since_body = 0
        self._others.works(self)
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; drop a trailer, which nothing here asks for."""
        if self._head_timer is not None:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        if self.parser.should_upgrade() and self._framing:
            return  # the parser goes no further; the body is still to come
        self._bytes_since_body = 0
        super().on_message_complete()

    def _wait_for_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _end_of_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._answering:
            # It was sent ahead of an answer, which is not lost for it.
            self.cycle.keep_alive = False
        else:
            self._refuse(HeadTimeoutError(limit_seconds=HEAD_SECONDS))

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # What the client gets.

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()
        elif not self._answering:
            self._others.idles(self)

    def pause_writing(self) -> None:
        """Have the application wait for a client that reads slowly, but not for ever."""
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
        """Cut the connection if the client takes nothing of an answer any more."""
        if self._unread_timer is None:
            self._look_again(self.transport.get_write_buffer_size())

    def _look_again(self, unread_bytes: int) -> None:
        self._unread_timer = (
            self.loop.call_later(UNREAD_SECONDS, self._look_at_reader, unread_bytes)
            if unread_bytes
            else None
        )

    def _look_at_reader(self, unread_bytes: int) -> None:
        now_unread_bytes = self.transport.get_write_buffer_size()
        if now_unread_bytes < unread_bytes:
            self._look_again(now_unread_bytes)
        else:
            self.cut(UNREAD)

    def _refuse(self, error: ServiceError) -> None:
        """Answer with a problem where an answer can still be sent, and end the connection."""
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
