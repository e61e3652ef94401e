"""Answers that are sent before a body has ended reach clients that send all of it first."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from support.fault_clients import SLOW, picture
from support.raw_http import connect, read_answer
from support.running_nginx import RunningNginx
from support.running_service import CLIENT, RunningService

Start = Callable[..., RunningService]

KEY = "k-31415926535897"
BODY = bytes(6_000_000)
AUTHORIZED = ("Authorization", f"Bearer {KEY}")
REFUSALS = [
    ("/v1/classify", ("X-Nothing", "1"), 401),
    ("/v1/nothing", AUTHORIZED, 404),
    ("/v1/classify/", AUTHORIZED, 404),
    ("/v1/models", AUTHORIZED, 405),
    ("/v1/classify", AUTHORIZED, 413),
    ("/v1/classify?top_k=0", AUTHORIZED, 422),
]
"""Target, header and status of requests that are refused by their head."""

UPLOAD = Path(__file__).with_name("clients") / "Upload.java"


@pytest.fixture(scope="module")
def guarded(
    start_faulty: Start, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"test {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with start_faulty(api_keys_file=str(keys), max_body_bytes=2**22) as service:
        yield service


@pytest.fixture(scope="module", params=[True, False], ids=["buffering", "streaming"])
def nginx(
    guarded: RunningService,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[RunningNginx]:
    with RunningNginx(guarded, tmp_path_factory.mktemp("nginx"), buffering=request.param) as proxy:
        yield proxy


def head(target: str, header: tuple[str, str], framing: str) -> bytes:
    name, value = header
    return f"POST {target} HTTP/1.1\r\nHost: s\r\n{name}: {value}\r\n{framing}\r\n\r\n".encode()


@pytest.mark.parametrize(("target", "header", "status"), REFUSALS)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_client_that_sends_everything_first_gets_its_answer(
    guarded: RunningService, target: str, header: tuple[str, str], status: int, chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(BODY)}"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    for _ in range(5):
        with connect(guarded) as connection:
            connection.sendall(head(target, header, framing))
            for start in range(0, len(body), 65536):
                connection.sendall(body[start : start + 65536])
            answer = read_answer(connection)
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert answer.problem
            assert connection.recv(1) == b""


def test_a_client_that_reads_nothing_until_two_megabytes_are_sent_gets_its_answer(
    guarded: RunningService,
) -> None:
    with connect(guarded) as connection:
        connection.sendall(head("/v1/classify?top_k=0", AUTHORIZED, "Content-Length: 3000000"))
        for _ in range(32):
            connection.sendall(bytes(64_000))
        assert read_answer(connection).status == 422


@pytest.mark.parametrize(("target", "header", "status"), REFUSALS)
def test_pythons_own_client_gets_its_answer(
    guarded: RunningService, target: str, header: tuple[str, str], status: int
) -> None:
    for _ in range(5):
        client = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=60)
        client.request("POST", target, BODY, dict([header]))
        answer = client.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (
            status,
            "application/problem+json",
        )
        assert answer.read()
        client.close()


def test_javas_own_client_gets_its_answers(guarded: RunningService) -> None:
    words = [word for target, (name, value), _ in REFUSALS for word in (target, f"{name}: {value}")]
    done = subprocess.run(
        ["java", str(UPLOAD), guarded.url, str(len(BODY)), *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(status) for *_, status in REFUSALS for _ in range(3)]


def test_nginx_passes_every_answer_on(nginx: RunningNginx) -> None:
    for target, (name, value), status in REFUSALS * 3:
        answer = CLIENT.post(nginx.url + target, content=BODY, headers={name: value}, timeout=60)
        assert answer.status_code == status, nginx.log
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture(scope="module")
def crowded(start_faulty: Start) -> Iterator[RunningService]:
    with start_faulty(max_queue_requests=2, max_batch_size=1) as service:
        yield service


@pytest.mark.parametrize("buffering", [True, False], ids=["buffering", "streaming"])
def test_under_overload_with_large_bodies_nginx_answers_429_and_never_502(
    crowded: RunningService, tmp_path: Path, buffering: bool
) -> None:
    # The demo's decoder ignores what stands behind the image.
    body = picture(SLOW) + bytes(6_000_000)

    def ask(_: int) -> int:
        headers = {"Content-Type": "image/png"}
        return CLIENT.post(
            f"{proxy.url}/v1/classify", content=body, headers=headers, timeout=90
        ).status_code

    with (
        RunningNginx(crowded, tmp_path, buffering=buffering) as proxy,
        ThreadPoolExecutor(12) as clients,
    ):
        statuses = Counter(clients.map(ask, range(36)))
        assert set(statuses) == {200, 429}, f"{statuses}\n{proxy.log}"
        assert statuses[429] > 5


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /v1/classify HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n", 400),
        (b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: s\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nHost: s\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_refusal_of_the_connection_reaches_a_client_that_sends_everything_first(
    guarded: RunningService, request_head: bytes, status: int
) -> None:
    with connect(guarded) as connection:
        connection.sendall(request_head + bytes(3_000_000))
        answer = read_answer(connection)
        assert answer.status == status
        assert answer.problem


def test_a_small_rest_of_a_body_is_dropped_and_the_connection_used_again(
    guarded: RunningService,
) -> None:
    request = head("/v1/classify?top_k=0", AUTHORIZED, "Content-Length: 100000")
    with connect(guarded) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = read_answer(connection)
            assert answer.status == 422
            assert "connection" not in answer.headers
            connection.sendall(bytes(100_000))
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: s\r\n\r\n")
        assert read_answer(connection).status == 200


def test_a_body_that_was_not_asked_for_is_not_waited_for(guarded: RunningService) -> None:
    expecting = "Content-Length: 100\r\nExpect: 100-continue"
    with connect(guarded) as connection:
        connection.sendall(head("/v1/classify?top_k=0", AUTHORIZED, expecting))
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (422, "close")


def test_a_client_that_never_stops_is_left_in_the_end(guarded: RunningService) -> None:
    with connect(guarded) as connection:
        connection.sendall(head("/v1/classify", AUTHORIZED, "Content-Length: 999999999999"))
        answer = read_answer(connection)
        assert answer.status == 413
        sent = 0
        with suppress(ConnectionError):
            while sent < 2**30:
                sent += connection.send(bytes(2**20))
    assert sent < 2**29
