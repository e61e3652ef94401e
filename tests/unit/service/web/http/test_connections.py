"""Limits of a connection, with time that the test advances."""

from __future__ import annotations

import itertools
import json
import logging
import re
from typing import Any

import pytest

from service.web.http import incoming
from service.web.http.connections import HEAD_SECONDS
from service.web.http.head_limits import MAX_FIRST_LINE_BYTES, MAX_HEAD_BYTES
from support.connection_bench import IDLE_SECONDS, ConnectionBench, run_tasks

HEAD = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"
UPLOAD_HEAD = b"POST / HTTP/1.1\r\nHost: service\r\nContent-Length: 3\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: service\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def bench() -> ConnectionBench:
    return ConnectionBench()


async def test_headers_byte_by_byte_are_answered_408_after_a_bounded_time(
    bench: ConnectionBench,
) -> None:
    connection, transport = bench.connect()
    for byte in itertools.islice(itertools.cycle(b"GET / HTTP/1.1\r\nA: b"), 30):
        connection.data_received(bytes([byte]))
        bench.loop.advance(HEAD_SECONDS / 29)
        if transport.ending:
            break
    assert bench.loop.now == pytest.approx(HEAD_SECONDS, rel=0.1)
    head, _, body = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert problem["type"] == "urn:overlock:problem:head-timeout"
    assert problem["request_id"].encode() in head
    assert problem["detail"] == "The headers were not complete after 10 seconds."


async def test_the_time_of_a_head_begins_with_its_first_byte(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    for _ in range(3):
        bench.loop.advance(IDLE_SECONDS - 1)
        connection.data_received(HEAD[:20])
        bench.loop.advance(HEAD_SECONDS - 1)
        connection.data_received(HEAD[20:])
        await run_tasks()
    assert transport.written.count(b"HTTP/1.1 200") == 3
    assert not transport.closing


async def test_a_body_has_as_much_time_as_the_application_gives_it(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(UPLOAD_HEAD)
    for byte in (b"a", b"b", b"c"):
        bench.loop.advance(3 * HEAD_SECONDS)
        connection.data_received(byte)
        await run_tasks()
    assert transport.status == 200


@pytest.mark.parametrize("received", [b"", b"\r\n"])
async def test_a_connection_without_a_request_is_closed_without_a_word(
    bench: ConnectionBench, received: bytes
) -> None:
    connection, transport = bench.connect()
    if received:
        connection.data_received(received)
    bench.loop.advance(IDLE_SECONDS - 1)
    assert not transport.closing
    bench.loop.advance(2)
    assert transport.closing
    assert not transport.written


async def test_a_half_sent_head_behind_a_request_does_not_cost_that_one_its_answer(
    bench: ConnectionBench,
) -> None:
    connection, transport = bench.connect()
    connection.data_received(UPLOAD_HEAD + b"ab")
    await run_tasks()
    connection.data_received(b"c" + HEAD[:10])
    bench.loop.advance(HEAD_SECONDS + 1)
    await run_tasks()
    assert transport.status == 200
    assert not transport.ending  # its time begins now
    bench.loop.advance(HEAD_SECONDS + 1)
    assert transport.ending
    assert transport.written.count(b"HTTP/1.1 408") == 1


@pytest.mark.parametrize(
    ("endless", "status", "limit_bytes"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nA: ", 431, MAX_HEAD_BYTES, id="header"),
        pytest.param(b"GET /", 414, MAX_FIRST_LINE_BYTES, id="path"),
        pytest.param(CHUNKED_HEAD + b"0\r\nA: ", 431, MAX_HEAD_BYTES, id="trailer"),
        pytest.param(CHUNKED_HEAD + b"1;a=", 431, MAX_HEAD_BYTES, id="chunk extension"),
    ],
)
@pytest.mark.parametrize("step_bytes", [100, 1024, 1_000_000])
async def test_what_is_no_body_is_bounded(
    bench: ConnectionBench, endless: bytes, status: int, limit_bytes: int, step_bytes: int
) -> None:
    connection, transport = bench.connect()
    connection.data_received(endless)
    sent = len(endless)
    while not transport.ending:
        connection.data_received(b"x" * step_bytes)
        sent += step_bytes
    assert sent < limit_bytes + 200 + step_bytes
    assert transport.status == status
    assert str(limit_bytes).encode() in transport.written
    connection.connection_lost(None)
    await run_tasks()


async def test_a_large_body_is_no_head(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(UPLOAD_HEAD.replace(b": 3", b": 1048576"))
    for _ in range(1024):
        connection.data_received(b"x" * 1024)
        await run_tasks()
    assert transport.status == 200


async def test_many_small_chunks_are_no_head(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(CHUNKED_HEAD)
    for _ in range(MAX_HEAD_BYTES):
        connection.data_received(b"1\r\nx\r\n")
    connection.data_received(b"0\r\nA: trailer\r\n\r\n")
    await run_tasks()
    assert transport.status == 200


async def test_what_is_no_http_is_answered_with_a_problem(bench: ConnectionBench) -> None:
    connection, transport = bench.connect()
    connection.data_received(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS
    assert transport.status == 400
    assert b"urn:overlock:problem:malformed-request" in transport.written
    assert transport.ending


@pytest.mark.parametrize("cut", [0, 1, -1, -4])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Content-Length: 0\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"", b""),
    ],
)
async def test_an_offer_of_another_protocol_is_declined_and_the_body_is_read(
    bench: ConnectionBench, framing: bytes, body: bytes, cut: int
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    request = b"POST / HTTP/1.1\r\nHost: service\r\n" + offer + framing + b"\r\n" + body
    connection, transport = bench.connect()
    for _ in range(2):
        connection.data_received(request[:cut])
        await run_tasks()
        connection.data_received(request[cut:])
        await run_tasks()
    assert transport.written.count(b"HTTP/1.1 200 OK") == 2
    expected_body = b"abc" if body else b""
    assert bench.bodies == [expected_body] * 2


async def test_a_lost_connection_leaves_no_timer_behind(bench: ConnectionBench) -> None:
    for received in (b"", HEAD[:10], HEAD, UPLOAD_HEAD):
        connection, transport = bench.connect()
        if received:
            connection.data_received(received)
        transport.unread = 1
        connection.pause_writing()
        connection.connection_lost(ConnectionResetError())
        await run_tasks()
    assert [timer for timer in bench.loop.timers if not timer.cancelled] == []


PIECEWISE = [
    HEAD,
    3 * HEAD,
    b"\r\n" + UPLOAD_HEAD + b"abc" + HEAD,
    CHUNKED_HEAD + b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n" + HEAD,
    CHUNKED_HEAD + b"3\r\nabcd\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: \0" + b"x" * MAX_HEAD_BYTES,
    b"GET /" + b"x" * MAX_FIRST_LINE_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"x" * MAX_FIRST_LINE_BYTES + b"\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\0" + b"x" * MAX_FIRST_LINE_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * (MAX_HEAD_BYTES - 34) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * (MAX_HEAD_BYTES - 33) + b"\r\n\r\n",
    b"GET /" + b"x" * (MAX_FIRST_LINE_BYTES - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", PIECEWISE)
async def test_an_answer_does_not_depend_on_how_a_request_is_cut_into_pieces(
    request_bytes: bytes,
) -> None:
    answers = []
    few = len(request_bytes) < 1000
    for step_bytes in (*range(1, 40), 10**6) if few else (1, 3001, 8190, 65535, 10**6):
        bench = ConnectionBench()
        connection, transport = bench.connect()
        for start in range(0, len(request_bytes), step_bytes):
            connection.data_received(request_bytes[start : start + step_bytes])
            if few:
                await run_tasks()
        for _ in range(4):
            await run_tasks()
        ids = re.compile(rb"[0-9a-f]{32}")
        answers.append((ids.sub(b"id", transport.written), transport.ending))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("fault", [RecursionError("deep"), ValueError("a\nb")])
async def test_a_fault_of_the_parser_costs_one_400_and_one_log_line(
    bench: ConnectionBench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
) -> None:
    def fail(_: bytes) -> None:
        raise fault

    monkeypatch.setattr(incoming, "parse_head", fail)
    connection, transport = bench.connect()
    with caplog.at_level(logging.INFO):
        connection.data_received(1000 * HEAD)
        connection.data_received(1000 * HEAD)
    assert transport.written.count(b"HTTP/1.1 400") == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "\n" not in record.getMessage() + vars(record)["fault"]
    assert record.exc_info is None


async def test_many_requests_in_one_packet_are_answered_in_their_order() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(path))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": path})

    bench = ConnectionBench(answer)
    connection, transport = bench.connect()
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    targets = [b"/n%d." % number for number in range(5000)]
    connection.data_received(
        b"".join(b"GET %b HTTP/1.1\r\nHost: s\r\n" % target + offer for target in targets)
    )
    assert not transport.reading
    for _ in range(5000):
        await run_tasks()
    assert re.findall(rb"/n\d+\.", transport.written) == targets
    assert transport.reading
