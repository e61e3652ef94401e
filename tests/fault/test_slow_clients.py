"""Clients that send slowly hold nothing that others need."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from support.fault_clients import HARMLESS, classify, picture
from support.raw_http import connect, read_answer
from support.running_service import RunningService

Start = Callable[..., RunningService]


def head(body_bytes: int, query: str = "") -> bytes:
    return (
        f"POST /v1/classify{query} HTTP/1.1\r\nHost: s\r\nContent-Type: image/png\r\n"
        f"Content-Length: {body_bytes}\r\n\r\n"
    ).encode()


@contextmanager
def trickling(
    connections: Sequence[socket.socket], piece: bytes, pause_seconds: float
) -> Iterator[None]:
    """Send a little on each connection, again and again, while the block runs."""
    stopped = threading.Event()

    def trickle() -> None:
        open_ones = list(connections)
        while not stopped.wait(pause_seconds):
            for connection in list(open_ones):
                try:
                    connection.sendall(piece)
                except OSError:
                    open_ones.remove(connection)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize(
    ("count", "declared_bytes"),
    [(26, 20 * 2**20), (256, 1000)],
    ids=["26 of the largest bodies", "256 small ones"],
)
def test_slow_uploads_leave_others_served_and_are_answered_408(
    faulty: RunningService, count: int, declared_bytes: int
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(faulty)) for _ in range(count)]
        for connection in slow:
            connection.sendall(head(declared_bytes, "?timeout=600"))
        with trickling(slow, b"x", 8.0):
            until = time.monotonic() + 9
            while time.monotonic() < until:
                assert classify(faulty).status_code == 200
                time.sleep(0.2)
            answers = [read_answer(connection) for connection in slow]
    assert {(answer.status, answer.slug) for answer in answers} == {(408, "upload-timeout")}
    assert all("1024 bytes a second" in answer.problem["detail"] for answer in answers)
    assert faulty.metric("overlock_held_bytes") == 0


def test_an_upload_that_was_fast_and_lasts_long_gives_way_when_its_bytes_are_needed(
    start_faulty: Start,
) -> None:
    with start_faulty(max_body_bytes=2**22, max_queue_bytes=2**23) as service, ExitStack() as stack:
        hoarders = [stack.enter_context(connect(service)) for _ in range(2)]
        for count, connection in enumerate(hoarders, 1):
            connection.sendall(head(2**22, "?timeout=600") + bytes(2**22 - 40_000))
            held_bytes = count * (2**22 - 40_000)
            service.wait_for(lambda: service.metric("overlock_held_bytes") >= held_bytes)  # noqa: B023
        with trickling(hoarders, bytes(1024), 0.5):
            refused = classify(service)
            assert refused.status_code == 429
            assert refused.json()["type"] == "urn:overlock:problem:memory-full"
            retry_after_seconds = int(refused.headers["Retry-After"])
            assert 0 < retry_after_seconds <= 10
            time.sleep(retry_after_seconds)
            assert classify(service).status_code == 200
            first = read_answer(hoarders[0])
            assert (first.status, first.slug) == (429, "memory-full")


def test_a_slow_but_steady_upload_is_answered(faulty: RunningService) -> None:
    body = picture(HARMLESS) + bytes(40_000)
    with connect(faulty) as connection:
        connection.sendall(head(len(body)))
        for start in range(0, len(body), 1500):
            connection.sendall(body[start : start + 1500])
            time.sleep(0.5)
        assert read_answer(connection).status == 200
