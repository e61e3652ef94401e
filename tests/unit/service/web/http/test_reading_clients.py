"""Clients that do not read their answers, with time that the test advances."""

from __future__ import annotations

import pytest

from service.web.http.reading_clients import LEAST_READ_BYTES_PER_SECOND, UNREAD_SECONDS
from support.connection_bench import IDLE_SECONDS, ConnectionBench, run_tasks

HEAD = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"


@pytest.fixture
def bench() -> ConnectionBench:
    return ConnectionBench()


async def test_an_answer_that_nobody_reads_is_given_up(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(HEAD)
    await run_tasks()
    transport.unread = 100_000
    connection.pause_writing()
    enough_bytes = int(LEAST_READ_BYTES_PER_SECOND * UNREAD_SECONDS)
    for _ in range(5):
        transport.unread -= enough_bytes
        bench.loop.advance(UNREAD_SECONDS)
    assert not transport.closing
    transport.unread -= enough_bytes // 2
    bench.loop.advance(UNREAD_SECONDS)
    assert transport.aborted


async def test_a_short_answer_that_nobody_reads_is_given_up_with_the_connection(
    bench: ConnectionBench,
) -> None:
    connection, transport = bench.connect()
    connection.data_received(HEAD)
    await run_tasks()
    transport.unread = 100  # which no transport complains of
    bench.loop.advance(IDLE_SECONDS)
    assert transport.closing
    assert not transport.aborted
    bench.loop.advance(UNREAD_SECONDS)
    assert transport.aborted
