"""Ends of connections, on a clock that the test advances."""

from __future__ import annotations

import pytest

from service.web.http.endings import LINGER_BYTES, LINGER_SECONDS, QUIET_SECONDS
from service.web.http.open_connections import MAX_UNSENT_BYTES
from support.connection_bench import ConnectionBench, Transport, run_tasks

NO_HOST = b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def bench() -> ConnectionBench:
    return ConnectionBench()


async def test_after_a_refusal_our_side_ends_first(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(NO_HOST)
    assert transport.status == 400
    assert transport.half_closed
    assert not transport.closing
    connection.data_received(bytes(1000))
    connection.eof_received()
    assert transport.closing
    assert transport.written.count(b"HTTP/1.1") == 1


async def test_a_client_that_goes_on_sending_is_left_after_a_bounded_time(
    bench: ConnectionBench,
) -> None:
    connection, transport = bench.connect()
    connection.data_received(NO_HOST)
    while not transport.closing:
        connection.data_received(b"x")
        bench.loop.advance(1.0)
    assert LINGER_SECONDS <= bench.loop.now <= LINGER_SECONDS + QUIET_SECONDS


async def test_a_client_that_is_quiet_is_left_soon(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(NO_HOST)
    bench.loop.advance(QUIET_SECONDS - 0.1)
    assert not transport.closing
    bench.loop.advance(0.2)
    assert transport.closing


async def test_a_client_that_sends_very_much_is_left(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(NO_HOST)
    megabyte, sent_bytes = bytes(2**20), 0
    while not transport.closing:
        connection.data_received(megabyte)
        sent_bytes += len(megabyte)
    assert LINGER_BYTES < sent_bytes <= LINGER_BYTES + len(megabyte)


async def test_a_lingering_connection_makes_room_for_others() -> None:
    bench = ConnectionBench(limit=1)
    connection, transport = bench.connect()
    connection.data_received(NO_HOST)
    _, late = bench.connect()
    assert transport.aborted
    assert not late.aborted


async def test_a_refused_head_request_has_no_body(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(b"HEAD / HTTP/1.1\r\n\r\n")
    assert transport.status == 400
    assert transport.written.endswith(b"\r\n\r\n")


async def test_where_unread_answers_need_too_much_memory_the_longest_unread_is_cut(
    bench: ConnectionBench,
) -> None:
    transports: list[Transport] = []
    for _ in range(3):
        connection, transport = bench.connect()
        transports.append(transport)
        transport.unread = MAX_UNSENT_BYTES // 2
        connection.pause_writing()
    assert [transport.aborted for transport in transports] == [True, False, False]


async def test_an_idle_connection_ends_with_the_server_and_a_busy_one_after_its_answer(
    bench: ConnectionBench,
) -> None:
    idle, busy = bench.connect(), bench.connect()
    busy[0].data_received(b"GET / HTTP/1.1\r\nHost: s\r\n\r\n")
    for connection, _ in (idle, busy):
        connection.shutdown()
    assert [transport.closing for _, transport in (idle, busy)] == [True, False]
    await run_tasks()
    assert b"connection: close" in busy[1].written
    assert busy[1].closing
