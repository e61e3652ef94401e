"""What HTTP promises, request by request, on the real service."""

from __future__ import annotations

import gzip
import socket
import time
import zlib

import pytest

from service.logs import ACCESS_SECONDS
from support.fault_clients import HARMLESS, picture
from support.raw_http import connect, read_all, read_answer, send
from support.running_service import CLIENT, RunningService

LIVE = b"GET /livez HTTP/1.1\r\nHost: s\r\n"
POST = b"POST /v1/classify HTTP/1.1\r\nHost: s\r\nContent-Type: image/png\r\n"
IMAGE = picture(HARMLESS)
BOMB = gzip.compress(bytes(500_000_000), 1)

REFUSED = [
    pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", 400, id="no host"),
    pytest.param(LIVE + b"Host: s\r\n\r\n", 400, id="two hosts"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400, id="host with a space"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, id="host with a path"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, id="host with a bad port"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 400, id="empty host"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: [1:::2]\r\n\r\n", 400, id="no IPv6 address"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, id="host with a high port"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400, id="host with a bad escape"),
    pytest.param(
        b"GET http://[::::]/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="target without a host"
    ),
    pytest.param(LIVE + b"A: b\r\n c\r\n\r\n", 400, id="folded line"),
    pytest.param(LIVE + b"A : b\r\n\r\n", 400, id="space before the colon"),
    pytest.param(LIVE + b"A\r\n\r\n", 400, id="no colon"),
    pytest.param(LIVE + b": b\r\n\r\n", 400, id="no name"),
    pytest.param(LIVE + b"A: b\0c\r\n\r\n", 400, id="NUL in a value"),
    pytest.param(LIVE + b"A\0: b\r\n\r\n", 400, id="NUL in a name"),
    pytest.param(b"GET /livez HTTP/1.1\nHost: s\n\n", 400, id="bare line feeds"),
    pytest.param(LIVE + b"A: b\rc\r\n\r\n", 400, id="bare carriage return"),
    pytest.param(b"GET  /livez HTTP/1.1\r\nHost: s\r\n\r\n", 400, id="two spaces"),
    pytest.param(b"GET livez HTTP/1.1\r\nHost: s\r\n\r\n", 400, id="relative target"),
    pytest.param(b"GET * HTTP/1.1\r\nHost: s\r\n\r\n", 400, id="asterisk for GET"),
    pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: s\r\n\r\n", 400, id="target beyond ASCII"),
    pytest.param(b"GET /livez\r\n\r\n", 400, id="HTTP/0.9"),
    pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400, id="CONNECT"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2"),
    pytest.param(LIVE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="two lengths"),
    pytest.param(LIVE + b"Content-Length: 1, 1\r\n\r\n", 400, id="a list of lengths"),
    pytest.param(LIVE + b"Content-Length: +1\r\n\r\n", 400, id="signed length"),
    pytest.param(LIVE + b"Content-Length: -1\r\n\r\n", 400, id="negative length"),
    pytest.param(LIVE + b"Content-Length: 0x1\r\n\r\n", 400, id="hexadecimal length"),
    pytest.param(LIVE + b"Content-Length: \xb2\r\n\r\n", 400, id="length of another alphabet"),
    pytest.param(POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413, id="huge length"),
    pytest.param(
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        id="length and chunks",
    ),
    pytest.param(POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, id="transfer coding"),
    pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="transfer codings"),
    pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501, id="nearly chunked"),
    pytest.param(POST + b"Transfer-Encoding: chunked,\r\n\r\n", 400, id="an empty coding"),
    pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, id="chunked twice"),
    pytest.param(
        b"POST /v1/classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        id="chunks in HTTP/1.0",
    ),
    pytest.param(
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 20 + b"\r\n", 413, id="huge chunk"
    ),
    pytest.param(
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400, id="chunk beyond its size"
    ),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nno\r\n", 400, id="no chunk"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA\r\n", 400, id="bad trailer"),
    pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: \0\r\n", 400, id="NUL trailer"),
    pytest.param(LIVE + b"Expect: a miracle\r\n\r\n", 417, id="expectation"),
    pytest.param(b"GET /?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: s\r\n\r\n", 414, id="long URL"),
    pytest.param(b"GET /" + b"x" * 200_000, 414, id="endless URL"),
    pytest.param(LIVE + b"A: " + b"x" * 70_000 + b"\r\n\r\n", 431, id="large head"),
    pytest.param(LIVE + b"A: " + b"x" * 200_000, 431, id="endless head"),
    pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400, id="TLS"),
]

ANSWERED = [
    pytest.param(LIVE + b"\r\n", 200, id="plain"),
    pytest.param(b"\r\n\r\n" + LIVE + b"\r\n", 200, id="after empty lines"),
    pytest.param(b"GET http://a:80/livez?x HTTP/1.1\r\nHost: b\r\n\r\n", 200, id="absolute target"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, id="IPv6 host"),
    pytest.param(b"GET /livez HTTP/1.0\r\n\r\n", 200, id="HTTP/1.0 without a host"),
    pytest.param(LIVE + b"Expect: 100-Continue\r\n\r\n", 200, id="expectation without a body"),
    pytest.param(LIVE + 2 * b"Expect: 100-continue\r\n" + b"\r\n", 200, id="expected twice"),
    pytest.param(b"GET /livez HTTP/1.1\r\nHost: a%C3%A9:00080\r\n\r\n", 200, id="escaped host"),
    pytest.param(LIVE + b"A:\tb\xe9 \r\n\r\n", 200, id="obs-text"),
    pytest.param(b"get /livez HTTP/1.1\r\nHost: s\r\n\r\n", 405, id="lower-case method"),
    pytest.param(b"BREW /livez HTTP/1.1\r\nHost: s\r\n\r\n", 405, id="unknown method"),
    pytest.param(b"GET /livez/ HTTP/1.1\r\nHost: s\r\n\r\n", 404, id="trailing slash"),
    pytest.param(b"POST /v1/classify/ HTTP/1.1\r\nHost: s\r\n\r\n", 404, id="slash after a route"),
    pytest.param(b"GET //livez HTTP/1.1\r\nHost: s\r\n\r\n", 404, id="two slashes"),
    pytest.param(
        POST
        + b"Transfer-Encoding: Chunked\r\n\r\n"
        + b"%x ;a=b;c\r\n%b\r\n000\r\nA: trailer\r\n\r\n" % (len(IMAGE), IMAGE),
        200,
        id="chunks with an extension and a trailer",
    ),
]


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED)
def test_what_is_no_request_is_refused_with_a_problem_and_the_connection_ends(
    faulty: RunningService, request_bytes: bytes, status: int
) -> None:
    answer = send(faulty, request_bytes)
    assert answer.status == status
    assert answer.problem["detail"]
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("request_bytes", "status"), ANSWERED)
def test_what_is_a_request_is_answered_and_the_connection_stays(
    faulty: RunningService, request_bytes: bytes, status: int
) -> None:
    with connect(faulty) as connection:
        connection.sendall(request_bytes)
        answer = read_answer(connection)
        assert answer.status == status
        if b"HTTP/1.0" in request_bytes:
            assert answer.headers["connection"] == "close"
            return
        connection.sendall(LIVE + b"\r\n")
        assert read_answer(connection).status == 200


@pytest.mark.parametrize(
    "target", ["/livez", "/readyz", "/v1/models", "/", "/docs", "/openapi.json", "/nothing"]
)
def test_head_is_get_without_the_body(faulty: RunningService, target: str) -> None:
    own = {"x-request-id", "server-timing", "date"}
    if target == "/v1/models":
        own.add("content-length")  # its costs are learnt meanwhile
    got, head = CLIENT.get(faulty.url + target), CLIENT.head(faulty.url + target)
    assert head.status_code == got.status_code
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }
    length = int(head.headers["content-length"])
    assert length == len(got.content) or (target == "/v1/models" and length > 0)
    assert head.content == b""


def test_a_method_that_a_path_does_not_have_is_405_with_those_it_has(
    faulty: RunningService,
) -> None:
    assert CLIENT.post(f"{faulty.url}/livez").headers["allow"] == "GET, HEAD"
    for method in ("GET", "HEAD", "PUT"):
        answer = CLIENT.request(method, f"{faulty.url}/v1/classify")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_question_about_the_server_as_a_whole_is_answered(faulty: RunningService) -> None:
    answer = send(faulty, b"OPTIONS * HTTP/1.1\r\nHost: s\r\n\r\n")
    assert answer.status in {404, 405}
    assert answer.problem


@pytest.mark.parametrize(
    "request_bytes",
    [LIVE + b"\r\n", POST + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE],
    ids=["probe", "classification"],
)
def test_a_half_closed_client_is_answered(faulty: RunningService, request_bytes: bytes) -> None:
    with connect(faulty) as connection:
        connection.sendall(3 * request_bytes)
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST + b"Content-Length: 3000\r\n\r\n" + bytes(20), 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", 400),
        (LIVE, 400),
        (POST.replace(b"fy", b"fy?top_k=0") + b"Content-Length: 3000000\r\n\r\nabc", 422),
    ],
    ids=["body", "chunk", "head", "body that nobody reads"],
)
def test_a_client_that_ends_too_early_is_told(
    faulty: RunningService, request_bytes: bytes, status: int
) -> None:
    answer = send(faulty, request_bytes, half_close=True)
    assert answer.status == status
    assert answer.problem


def test_many_heads_that_offer_an_upgrade_are_answered_one_after_the_other(
    faulty: RunningService,
) -> None:
    time.sleep(4 * ACCESS_SECONDS)  # lines about earlier requests are written by then
    lines = faulty.log.count("\n")
    request = LIVE + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connect(faulty) as connection:
        connection.sendall(1500 * request)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).count(b"HTTP/1.1 200 OK\r\n") == 1500
    assert faulty.log.count("\n") - lines < 3


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(IMAGE)),
        ("X-GZIP", gzip.compress(IMAGE)),
        ("deflate", zlib.compress(IMAGE)),
        ("deflate", zlib.compress(IMAGE, wbits=-15)),
        ("identity", IMAGE),
    ],
    ids=["gzip", "X-GZIP", "deflate", "raw deflate", "identity"],
)
def test_a_compressed_body_is_decoded(faulty: RunningService, coding: str, body: bytes) -> None:
    headers = {"Content-Type": "image/png", "Content-Encoding": coding}
    answer = CLIENT.post(f"{faulty.url}/v1/classify", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        pytest.param("br", IMAGE, 415, id="br"),
        pytest.param("gzip, gzip", IMAGE, 415, id="twice"),
        pytest.param("nonsense", IMAGE, 415, id="unknown"),
        pytest.param("gzip", IMAGE, 400, id="no gzip"),
        pytest.param("gzip", gzip.compress(IMAGE)[:-1], 400, id="incomplete"),
        pytest.param("gzip", gzip.compress(IMAGE) + b"x", 400, id="a byte behind it"),
        pytest.param("deflate", IMAGE, 400, id="no deflate"),
        pytest.param("gzip", b"", 400, id="empty"),
        pytest.param("gzip", BOMB, 413, id="bomb"),
    ],
)
def test_a_coding_is_never_ignored(
    faulty: RunningService, coding: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "image/png", "Content-Encoding": coding}
    answer = CLIENT.post(f"{faulty.url}/v1/classify", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate"
