"""One HTTP/1.1 keep-alive connection that costs the client as little as Python allows."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools


@dataclass(frozen=True)
class Endpoint:
    """A route of a server.

    Attributes:
        host: its name or address.
        port: its port.
        path: the route, with its query.
        tls: context for TLS; None for plain HTTP.
        headers: headers of every request, beside the usual ones.
    """

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, body: bytes, media_type: str) -> bytes:
        """Return a complete request, so that sending it is one write."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        headers = {
            "Host": f"{host}:{self.port}",
            "Content-Type": media_type,
            "Content-Length": str(len(body)),
            **self.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body

    async def open(self) -> HttpConnection:
        """Connect to the server.

        Raises:
            OSError: if nothing listens there.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            HttpConnection, self.host, self.port, ssl=self.tls
        )
        return connection


@dataclass(frozen=True)
class RawAnswer:
    """A complete response.

    Attributes:
        status: HTTP's code.
        body: its bytes.
        completed_at: moment of its last byte, ``time.perf_counter``.
    """

    status: int
    body: bytes
    completed_at: float


class HttpConnection(asyncio.Protocol):
    """Exchanges one request at a time; ``reusable`` says whether another may follow."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[RawAnswer] | None = None
        self._chunks: list[bytes] = []
        self._complete = True
        self.reusable = True

    async def exchange(self, request: bytes) -> RawAnswer:
        """Send a request and return its answer.

        Raises:
            ConnectionError: if the server closes the connection or sends anything but HTTP.
        """
        assert self._transport is not None, "the endpoint has connected it"
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            raise ConnectionResetError("the server hung up")
        self._complete = False
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    @property
    def idle(self) -> bool:
        """Whether the last answer is complete."""
        return self._complete

    async def close(self) -> None:
        """Close the connection."""
        self._hang_up()

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"no HTTP: {error}"))
            self._hang_up()

    def connection_lost(self, _: Exception | None) -> None:
        """Fail the current exchange."""
        self.reusable = False
        self._fail(ConnectionResetError("the server hung up"))

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Discard the previous answer."""
        self._chunks = []

    def on_body(self, chunk: bytes) -> None:
        """Collect the body."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Resolve the exchange with the answer."""
        self._complete = True
        self.reusable = self.reusable and self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            answer = RawAnswer(
                self._parser.get_status_code(), b"".join(self._chunks), time.perf_counter()
            )
            self._waiting.set_result(answer)

    def _hang_up(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    def _fail(self, error: ConnectionError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
