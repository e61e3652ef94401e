"""Both clients against servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.client import (
    AsyncClient,
    ClassifyResponse,
    Client,
    ProblemError,
    TooLateError,
    UnexpectedAnswerError,
    UnreachableError,
)

ANSWER = (
    b'{"model": "demo", "predictions": [{"class_id": 3, "label": "star", "score": 0.9}], '
    b'"image": {"width": 4, "height": 3, "frames": 1}, "timing": {"decode_seconds": 0.1, '
    b'"queue_seconds": 0.1, "inference_seconds": 0.1, "render_seconds": 0.1, "batch_size": 1}, '
    b'"something_new": true}'
)
PROBLEM = (
    b'{"type": "urn:overlock:problem:invalid-image", "title": "The image cannot be decoded", '
    b'"status": 422, "detail": "The image is empty: it has 0 bytes.", '
    b'"instance": "/v1/classify", "request_id": "r-7"}'
)


def http(status: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


FINE = http("200 OK", ANSWER)
NOT_READY = http("503 Service Unavailable", headers="Retry-After: 0\r\n")
HALF_AN_ANSWER = FINE[:-40]


class ScriptedServer:
    """Answers each connection's request with the next of its scripts and hangs up.

    Args:
        scripts: pieces of an answer; None waits for as long as the client does.
    """

    def __init__(self, scripts: list[list[bytes | None]]) -> None:
        self.requests: list[bytes] = []
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(self._read(connection))
                for piece in script:
                    if piece is None:
                        connection.recv(1)
                    else:
                        connection.sendall(piece)

    def _read(self, connection: socket.socket) -> bytes:
        received = b""
        while not received.endswith(b"an image" if b"Content-Length" in received else b"\r\n\r\n"):
            received += connection.recv(65536)
        return received


@contextmanager
def serving(*scripts: list[bytes | None]) -> Iterator[ScriptedServer]:
    server = ScriptedServer(list(scripts))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask_sync(url: str, **options: float) -> ClassifyResponse:
    with Client(url, **options) as client:  # type: ignore[arg-type]
        return client.classify(b"an image", top_k=1)


def ask_async(url: str, **options: float) -> ClassifyResponse:
    async def call() -> ClassifyResponse:
        async with AsyncClient(url, **options) as client:  # type: ignore[arg-type]
            return await client.classify(b"an image", top_k=1)

    return asyncio.run(call())


both = pytest.mark.parametrize("call", [ask_sync, ask_async])
Call = Callable[..., ClassifyResponse]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.retries.FIRST_WAIT_SECONDS", 0.001)


@both
def test_a_result_has_types_and_new_fields_do_no_harm(call: Call) -> None:
    with serving([FINE]) as server:
        found = call(server.url)
    assert isinstance(found, ClassifyResponse)
    assert found.predictions[0].label == "star"
    (request,) = server.requests
    assert request.startswith(b"POST /v1/classify?top_k=1&timeout=")
    assert request.endswith(b"an image")


@both
def test_it_retries_when_the_service_is_not_ready(call: Call) -> None:
    with serving([NOT_READY], [NOT_READY], [FINE]) as server:
        assert call(server.url).model == "demo"
    assert len(server.requests) == 3


@both
def test_it_retries_when_the_connection_breaks(call: Call) -> None:
    with serving([], [HALF_AN_ANSWER], [FINE]) as server:
        assert call(server.url).model == "demo"
    assert len(server.requests) == 3


@both
def test_it_gives_up_on_a_server_that_only_breaks(call: Call) -> None:
    with (
        serving([], [], []) as server,
        pytest.raises(UnreachableError, match="cannot be reached: Server disconnected"),
    ):
        call(server.url, max_attempts=3)
    assert len(server.requests) == 3


@both
def test_nobody_listens(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=url):
        call(url, max_attempts=2)


@both
def test_a_problem_comes_with_all_that_it_says(call: Call) -> None:
    with (
        serving([http("422 Unprocessable Content", PROBLEM)]) as server,
        pytest.raises(ProblemError) as raised,
    ):
        call(server.url)
    assert str(raised.value) == "The image cannot be decoded: The image is empty: it has 0 bytes."
    assert raised.value.problem.type == "urn:overlock:problem:invalid-image"
    assert raised.value.problem.request_id == "r-7"


@both
def test_something_else_that_answers_is_named(call: Call) -> None:
    with (
        serving([http("200 OK", b"<h1>It works!</h1>")]) as server,
        pytest.raises(UnexpectedAnswerError, match="not as overlock-service: <h1>It works!</h1>"),
    ):
        call(server.url)


@both
def test_a_server_that_keeps_silent_costs_no_more_than_the_timeout(call: Call) -> None:
    started = time.monotonic()
    with serving([None]) as server, pytest.raises(TooLateError, match=r"0\.3 seconds"):
        call(server.url, timeout_seconds=0.3)
    assert 0.25 < time.monotonic() - started < 5.0  # a busy machine may take its time


def drip() -> list[bytes | None]:
    head, _, body = FINE.partition(b"\r\n\r\n")
    return [head + b"\r\n\r\n", body[:5], None]


@both
def test_an_answer_that_never_ends_costs_no_more_than_twice_the_timeout(call: Call) -> None:
    started = time.monotonic()
    with serving(drip()) as server, pytest.raises(TooLateError):
        call(server.url, timeout_seconds=0.3)
    assert time.monotonic() - started < 5.0


def test_a_task_that_is_cancelled_withdraws_its_request() -> None:
    async def call(url: str) -> None:
        async with AsyncClient(url) as client, asyncio.timeout(0.2):
            await client.models()

    with serving([None]) as server, pytest.raises(TimeoutError):
        asyncio.run(call(server.url))


def test_a_key_is_sent() -> None:
    with serving([FINE]) as server, Client(server.url + "/", api_key="secret") as client:
        client.classify(b"an image")
    assert b"Authorization: Bearer secret" in server.requests[0]


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(b"an image")
    with serving([FINE]) as server, Client(server.url) as client:
        client.classify(tmp_path / "image.jpg")
    assert server.requests[0].endswith(b"an image")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("localhost:8000", {}, "no address like"),
        ("ftp://host", {}, "no address like"),
        ("http://", {}, "no address like"),
        ("http://[::1", {}, "no address"),
        ("http://host", {"timeout_seconds": 0.0}, "above 0"),
        ("http://host", {"max_attempts": 0}, "above 0"),
        ("http://host", {"api_key": "a\nb"}, "no header can hold"),
        ("http://host", {"api_key": ""}, "no header can hold"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    url: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Client(url, **options)  # type: ignore[arg-type]
