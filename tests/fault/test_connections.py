"""Clients that hold connections open: slow, silent, or very many."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

from support.fault_clients import HARMLESS, classify, picture
from support.running_service import RunningService

Start = Callable[..., RunningService]

FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 128 && exec "$@"', "sh")
"""Starts the service with 128 file descriptors, of which connections may take half."""

REQUEST = b"GET /livez HTTP/1.1\r\nHost: service\r\n\r\n"
BUNDLE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: service\r\n\r\n"


@contextmanager
def connected(service: RunningService) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        yield connection


def send_byte_by_byte(service: RunningService, head: bytes, pause_seconds: float) -> bytes:
    """Return the answer, which may come before all is sent."""
    with connected(service) as connection:
        for byte in head:
            connection.sendall(bytes([byte]))
            connection.settimeout(pause_seconds)
            try:
                return connection.recv(4096)
            except TimeoutError:
                continue
    raise AssertionError("all of it was taken")


def upload_slowly(service: RunningService, seconds: float) -> bytes:
    body = picture(HARMLESS)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: service\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(head.encode())
        for start in range(0, len(body), 10):
            connection.sendall(body[start : start + 10])
            time.sleep(seconds / (len(body) / 10))
        return connection.recv(4096)


def status_on(connection: socket.socket) -> int:
    """Send the request and take all of its answer, which may come in parts."""
    connection.sendall(REQUEST)
    with HTTPResponse(connection) as response:
        response.begin()
        response.read()
        return response.status


def test_headers_byte_by_byte_are_cut_off_and_slow_bodies_and_idle_connections_are_not(
    faulty: RunningService,
) -> None:
    with connected(faulty) as idle, ThreadPoolExecutor(2) as clients:
        assert status_on(idle) == 200
        endless = clients.submit(send_byte_by_byte, faulty, REQUEST[:-4] + b"x" * 1000, 0.1)
        upload = clients.submit(upload_slowly, faulty, 4.0)
        assert endless.result().startswith(b"HTTP/1.1 408")
        assert upload.result().startswith(b"HTTP/1.1 200")
        assert status_on(idle) == 200
    assert faulty.metric("overlock_connections_cut_total", 'reason="head-timeout"') == 1


def test_a_client_that_does_not_read_its_answer_is_cut_off(faulty: RunningService) -> None:
    cut = 'reason="answer-unread"'
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", faulty.port))
        connection.sendall(20 * BUNDLE)  # more than the kernel keeps for anyone
        faulty.wait_for(lambda: faulty.metric("overlock_connections_cut_total", cut) == 1)
    faulty.wait_for(lambda: faulty.metric("overlock_requests_in_flight") == 1)


def test_any_number_of_half_open_connections_leave_room_for_a_request(start_faulty: Start) -> None:
    with start_faulty(prefix=FEW_DESCRIPTORS) as service, ExitStack() as open_connections:
        for _ in range(1000):
            open_connections.enter_context(connected(service)).sendall(REQUEST[:10])
        assert [classify(service).status_code for _ in range(10)] == [200] * 10
        assert service.metric("overlock_connections") <= 64
        assert service.metric("overlock_connections_cut_total", 'reason="crowded"') > 900
        assert "Traceback" not in service.log
