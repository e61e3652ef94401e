"""Answers as they are written, for applications that a test makes up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.web.http.exchange import CLIENT_GONE, Watch
from support.connection_bench import ConnectionBench, run_tasks

GET = b"GET / HTTP/1.1\r\nHost: s\r\n\r\n"
Send = Callable[[dict[str, Any]], Awaitable[None]]


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(request: bytes, *messages: dict[str, Any]) -> tuple[bytes, bool]:
    """Return what is written if an application sends messages, and whether the connection ends."""

    async def application(scope: Any, receive: Any, send: Send) -> None:
        for message in messages:
            await send(message)

    bench = ConnectionBench(application)
    connection, transport = bench.connect()
    connection.data_received(request)
    await run_tasks()
    return bytes(transport.written), transport.closing


async def test_an_answer_without_a_length_comes_in_chunks() -> None:
    written, ends = await answer(GET, start(), body(b"abc", more=True), body(b"d"))
    assert b"transfer-encoding: chunked\r\n" in written
    assert written.endswith(b"\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")
    assert not ends


async def test_http_1_0_has_no_chunks_and_the_answer_ends_with_the_connection() -> None:
    written, ends = await answer(b"GET / HTTP/1.0\r\n\r\n", start(), body(b"abc"))
    assert b"chunked" not in written
    assert written.endswith(b"\r\n\r\nabc")
    assert ends


@pytest.mark.parametrize("status", [204, 304])
async def test_some_answers_have_no_body(status: int) -> None:
    written, ends = await answer(GET, start(status), body())
    assert written.endswith(b"\r\n\r\n")
    assert b"chunked" not in written
    assert not ends


async def test_head_is_answered_without_a_body() -> None:
    request = GET.replace(b"GET", b"HEAD")
    written, _ = await answer(request, start(200, (b"content-length", b"3")), body(b"abc"))
    assert b"content-length: 3\r\n" in written
    assert written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"ab", b"abcd"])
async def test_an_answer_that_is_not_as_long_as_it_says_ends_the_connection(data: bytes) -> None:
    _, ends = await answer(GET, start(200, (b"content-length", b"3")), body(data))
    assert ends


async def test_a_header_with_a_line_break_is_never_sent() -> None:
    written, ends = await answer(GET, start(200, (b"a", b"b\r\nc: d")), body())
    assert b"c: d" not in written
    assert ends


async def test_an_application_without_an_answer_is_a_500() -> None:
    written, _ = await answer(GET)
    assert written.startswith(b"HTTP/1.1 500 ")
    assert b"urn:overlock:problem:internal-error" in written


async def test_an_application_can_end_the_connection() -> None:
    written, ends = await answer(
        GET, start(200, (b"connection", b"close"), (b"content-length", b"0")), body()
    )
    assert written.count(b"connection: close") == 1
    assert ends


async def test_a_client_that_ends_its_side_gets_one_answer_and_no_wrong_byte() -> None:
    bench = ConnectionBench()
    connection, transport = bench.connect()
    connection.data_received(GET)
    connection.eof_received()
    assert transport.written == b"HTTP/"
    bench.loop.advance(0.1)
    assert transport.written == b"HTTP/1."
    bench.loop.advance(1.0)
    assert transport.written == b"HTTP/1.1 "
    await run_tasks()
    assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.written.count(b"HTTP") == 1
    assert transport.closing


@pytest.mark.parametrize("leaves_first", [False, True])
async def test_an_application_is_told_once_that_its_client_has_left(leaves_first: bool) -> None:
    told: list[str] = []
    watches: list[Watch] = []

    async def application(scope: Any, receive: Any, send: Send) -> None:
        watches.append(scope["extensions"][CLIENT_GONE])
        await asyncio.Event().wait()

    bench = ConnectionBench(application)
    connection, _ = bench.connect()
    connection.data_received(GET)
    await run_tasks()
    if leaves_first:
        connection.connection_lost(None)
    watches[0](lambda: told.append("gone"))
    if not leaves_first:
        assert told == []
        connection.connection_lost(None)
    assert told == ["gone"]


async def test_an_application_that_watches_no_more_is_not_told() -> None:
    async def application(scope: Any, receive: Any, send: Send) -> None:
        watch = scope["extensions"][CLIENT_GONE]
        watch(lambda: pytest.fail("it is told"))
        watch(None)
        await asyncio.Event().wait()

    bench = ConnectionBench(application)
    connection, _ = bench.connect()
    connection.data_received(GET)
    await run_tasks()
    connection.connection_lost(None)
