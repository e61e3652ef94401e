"""The connections of an HTTP worker, on which nothing waits for a client without a limit.

uvicorn's server accepts them and hands requests to the application; this is its protocol class.
The time for a body is limited by ``service.web.admission``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from service import metrics
from service.api.errors import HeadTimeoutError, MalformedRequestError, ServiceError
from service.web.http.endings import EndingConnection, Lingering
from service.web.http.exchange import BUFFERED_BYTES, Exchange, scope_of
from service.web.http.incoming import Head, Incoming
from service.web.http.open_connections import OpenConnections
from service.web.http.reading_clients import ReaderWatch

if TYPE_CHECKING:
    from uvicorn.server import ServerState

HEAD_SECONDS = 10.0
"""Seconds allowed from the first byte of a request to the end of its headers."""

DRAINED_BYTES = 256 * 1024
"""Largest rest of an unread body that is received and dropped, so that the connection can be used
again."""

DRAIN_SECONDS = 5.0
"""Seconds that it may take."""


class Connection(EndingConnection):
    """A client's connection.

    uvicorn constructs it with these arguments; ``open_connections``, the registry of the worker's
    connections, is bound in advance.
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
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._open_connections = open_connections
        self.writable = asyncio.Event()
        self.writable.set()
        self._exchange: Exchange | None = None
        self._incoming = Incoming()
        self._in_head = self._reading_paused = self._client_is_done = False
        self._lingering: Lingering | None = None
        self._reader: ReaderWatch | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection and wait for its first request."""
        self._transport = transport
        server, client = get_local_addr(transport), get_remote_addr(transport)
        if client is not None:
            # A client by IPv4 of a listener for both families; trusted proxies are listed by IPv4.
            client = client[0].removeprefix("::ffff:"), client[1]
        self._addresses = {"server": server, "client": client}
        self._state.connections.add(self)  # type: ignore[arg-type]  # its own classes
        self._set_timer(self._config.timeout_keep_alive, self._close)
        self._open_connections.all.add(self)
        self._enter(self._open_connections.idle)
        if len(self._open_connections.all) > self._open_connections.limit:
            self._open_connections.make_room()
        metrics.CONNECTIONS.set(len(self._open_connections.all))

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and tell its application."""
        self._unregister()
        self._state.connections.discard(self)
        self._cancel_timer()
        if self._lingering is not None:
            self._lingering.stop()
        if self._exchange is not None:
            self._exchange.disconnect()
            self._exchange = None
        if self._reader is not None:
            self._reader.stop()
        self.writable.set()

    def _enter(self, group: dict[Any, None] | None) -> None:
        """Enter one of the registry's groups, or none, and leave the others."""
        self._open_connections.idle.pop(self, None)
        self._open_connections.uploading.pop(self, None)
        if group is not None:
            group[self] = None

    def _unregister(self) -> None:
        self._enter(None)
        self._open_connections.all.discard(self)
        metrics.CONNECTIONS.set(len(self._open_connections.all))

    # Receiving.

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self._lingering is not None:
            self._lingering.drop(len(data))
        else:
            self._incoming.add(data)
            self._take()

    def _take(self) -> None:
        try:
            self._take_requests()
        except ServiceError as error:
            self._refuse(error)
        except Exception as fault:  # noqa: BLE001
            # A fault of ours costs this client its connection, and the log one line.
            self._refuse(MalformedRequestError("This is no valid HTTP/1.1 request."), fault)

    def _take_requests(self) -> None:
        """Take the parts of requests one after the other, as far as they have arrived."""
        while True:
            if self._incoming.body is not None:
                self._take_body()
                if self._incoming.body is not None:
                    return
            elif self._exchange is not None:
                # The next request waits for this one's answer.
                if len(self._incoming.pending) > BUFFERED_BYTES:
                    self._pause_reading()
                return
            else:
                head = self._incoming.take_head()
                if head is None:
                    if self._incoming.pending and not self._in_head:
                        self._in_head = True
                        error = HeadTimeoutError(limit_seconds=HEAD_SECONDS)
                        self._set_timer(HEAD_SECONDS, partial(self._refuse, error))
                    return
                self._begin(head)

    def _take_body(self) -> None:
        part = self._incoming.take_body()
        if self._exchange is None:
            # The request was answered without its body.
            if self._incoming.body is None:
                self._await_request()
            return
        if part and self._exchange.feed(part):
            self._pause_reading()
        if self._incoming.body is None:
            self._exchange.end_body()
            self._enter(None)

    def _begin(self, head: Head) -> None:
        """Hand a request to the application."""
        self._cancel_timer()
        self._in_head = False
        exchange = self._exchange = Exchange(self, head)
        if self._incoming.body is None:
            exchange.end_body()
            self._enter(None)
        else:
            self._enter(self._open_connections.uploading)
        scope = scope_of(head, self._config, self._app_state) | self._addresses
        task = self._loop.create_task(exchange.run(self._config.loaded_app, scope))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def eof_received(self) -> bool:
        """Take the end of the client's side, which may still wait for an answer."""
        self._client_is_done = True
        exchange = self._exchange
        if exchange is None:
            if self._in_head:
                self._refuse(MalformedRequestError("The request ends within its head."))
            else:
                self._close()
        elif self._incoming.body is not None:
            self._incoming.clear()
            exchange.truncate()
        else:
            exchange.start_early(self._loop)
        return True  # the connection stays open

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on after a pause."""
        if self._reading_paused:
            self._reading_paused = False
            if not self._client_is_done:
                self._transport.resume_reading()

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, call)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Sending.

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer, which change with the time."""
        return self._state.default_headers

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def can_stay_open(self) -> bool:
        """Return whether another request can follow the one that is being answered."""
        if self._incoming.body is None or self._exchange is None:
            return True
        left_bytes = self._incoming.body.left_bytes
        # A client that holds its body back may send it after a refusal, or another request.
        holds_back = self._exchange.awaits_continue
        return left_bytes is not None and left_bytes <= DRAINED_BYTES and not holds_back

    def on_answered(self) -> None:
        """Continue with the next request, or end the connection."""
        assert self._exchange is not None
        keep_alive, self._exchange = self._exchange.keep_alive, None
        self._state.total_requests += 1
        if not keep_alive:
            self._finish()
            return
        self.resume_reading()
        if self._incoming.body is not None:
            self._enter(self._open_connections.idle)
            self._set_timer(DRAIN_SECONDS, self._finish)
            return
        self._await_request()
        if self._incoming.pending:
            self._take()
        if self._client_is_done and self._exchange is None:
            self._close()

    def _await_request(self) -> None:
        self._enter(self._open_connections.idle)
        self._set_timer(self._config.timeout_keep_alive, self._close)

    def _take_nothing_more(self) -> None:
        self._cancel_timer()
        self._in_head = False
        self._incoming.clear()
        self._enter(self._open_connections.idle)
        self.resume_reading()

    def _close(self) -> None:
        self._cancel_timer()
        if not self._transport.is_closing():
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._watch_reader()
