"""Which connections make room for others."""

from __future__ import annotations

from support.connection_bench import ConnectionBench, run_tasks

HEAD = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"
UPLOAD_HEAD = b"POST / HTTP/1.1\r\nHost: service\r\nContent-Length: 3\r\n\r\n"


async def test_the_connection_that_idles_the_longest_makes_room() -> None:
    bench = ConnectionBench(limit=3)
    busy, first, second = (bench.connect() for _ in range(3))
    busy[0].data_received(UPLOAD_HEAD)
    first[0].data_received(HEAD)  # it was in use after the second one
    await run_tasks()
    third = bench.connect()
    assert [each[1].aborted for each in (busy, first, second, third)] == [
        False,
        False,
        True,
        False,
    ]
    second[0].connection_lost(None)
    third[0].connection_lost(None)
    fourth = bench.connect()
    assert [each[1].aborted for each in (busy, first, fourth)] == [False] * 3


async def test_where_everyone_is_busy_the_new_connection_has_no_place() -> None:
    bench = ConnectionBench(limit=2)
    busy = [bench.connect() for _ in range(2)]
    for connection, _ in busy:
        connection.data_received(HEAD)
    _, late = bench.connect()
    assert late.aborted
    assert not any(transport.aborted for _, transport in busy)


async def test_an_upload_makes_room_where_no_connection_is_idle() -> None:
    bench = ConnectionBench(limit=3)
    first, second, busy = (bench.connect() for _ in range(3))
    first[0].data_received(UPLOAD_HEAD)
    second[0].data_received(UPLOAD_HEAD)
    busy[0].data_received(HEAD)
    late = bench.connect()
    assert [each[1].aborted for each in (first, second, busy, late)] == [True, False, False, False]
