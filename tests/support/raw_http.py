"""Requests as bytes, and all answers to them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import msgspec

from support.running_service import RunningService


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document; every refusal is one, and names the request."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = msgspec.json.decode(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return document

    @property
    def slug(self) -> str:
        return str(self.problem["type"]).rpartition(":")[2]


def connect(service: RunningService, seconds: float = 60) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=seconds)


def read_answer(connection: socket.socket, method: str = "GET") -> RawAnswer:
    """Read one answer, which is all that has been sent so far."""
    with HTTPResponse(connection, method=method) as response:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return RawAnswer(response.status, headers, response.read())


def send(
    service: RunningService,
    request: bytes | Iterable[bytes],
    *,
    method: str = "GET",
    half_close: bool = False,
) -> RawAnswer:
    """Send all of a request on a new connection before reading its answer."""
    with connect(service) as connection:
        for piece in [request] if isinstance(request, bytes) else request:
            connection.sendall(piece)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection, method)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side ends, or for two seconds without a byte."""
    received = b""
    connection.settimeout(2.0)
    with suppress(TimeoutError):
        while part := connection.recv(65536):
            received += part
    return received
