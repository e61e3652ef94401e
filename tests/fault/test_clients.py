"""Clients that are slow, or leave."""

from __future__ import annotations

import itertools
import logging
import random
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from support.fault_clients import HARMLESS, picture
from support.running_service import RunningService

logger = logging.getLogger(__name__)

GAUGES = {
    "overlock_queue_requests": 0.0,
    "overlock_pending_work_seconds": 0.0,
    "overlock_held_bytes": 0.0,
    # The one that asks for the metrics.
    "overlock_requests_in_flight": 1.0,
    "overlock_connections": 1.0,
}


def head(body: bytes, query: str = "") -> bytes:
    return (
        f"POST /v1/classify{query} HTTP/1.1\r\nHost: service\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()


def ask_and_perhaps_leave(service: RunningService, seed: int) -> str:
    """Send a request; one in five leaves at a moment of its own. Return the answer's status."""
    chance, body = random.Random(seed), picture(HARMLESS)
    request = head(body) + body
    leaves = chance.random() < 0.2
    # Half of them with a part of it unsent, half while it is worked on.
    sent_bytes = chance.choice([chance.randint(1, len(request)), len(request)])
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(request[:sent_bytes] if leaves else request)
        if leaves:
            connection.settimeout(chance.uniform(0.001, 0.05))
            with suppress(TimeoutError):
                connection.recv(100)
            return "left"
        return connection.recv(100).split()[1].decode()


def test_a_fifth_of_the_clients_leave_and_nothing_is_kept(
    faulty: RunningService, pytestconfig: pytest.Config
) -> None:
    until = time.monotonic() + pytestconfig.getoption("soak_seconds")
    outcomes: Counter[str] = Counter()
    with ThreadPoolExecutor(16) as clients:
        for start in itertools.count(step=64):
            seeds = range(start, start + 64)
            outcomes.update(clients.map(lambda seed: ask_and_perhaps_leave(faulty, seed), seeds))
            if time.monotonic() > until:
                break
    assert set(outcomes) == {"left", "200"}
    assert 0.1 < outcomes["left"] / outcomes.total() < 0.3
    for gauge, value in GAUGES.items():
        faulty.wait_for(lambda gauge=gauge, value=value: faulty.metric(gauge) == value)  # type: ignore[misc]
    places = {
        place: faulty.metric("overlock_requests_cancelled_total", f'place="{place}"')
        for place in ("read", "decode", "engine", "render")
    }
    logger.info("%s; cancelled during: %s; then the gauges: %s", dict(outcomes), places, GAUGES)
    assert places["read"] > 0
    assert places["engine"] > 0


def test_a_slow_upload_is_answered_408_at_its_deadline(faulty: RunningService) -> None:
    body = picture(HARMLESS)
    with socket.create_connection(("127.0.0.1", faulty.port), timeout=30) as connection:
        connection.sendall(head(body, "?timeout=0.5") + body[:20])
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"20 bytes had arrived" in answer


def test_an_upload_that_stalls_is_answered_408_long_before_its_deadline(
    faulty: RunningService,
) -> None:
    body = picture(HARMLESS)
    with socket.create_connection(("127.0.0.1", faulty.port), timeout=40) as connection:
        connection.sendall(head(body, "?timeout=600") + body[:20])
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")


def test_expect_continue_is_refused_without_the_body(faulty: RunningService) -> None:
    too_large = b"x" * 1000
    lines = head(too_large).replace(b"Content-Length: 1000", b"Content-Length: 999999999")
    with socket.create_connection(("127.0.0.1", faulty.port), timeout=30) as connection:
        connection.sendall(lines.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
