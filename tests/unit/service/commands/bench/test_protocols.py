from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from model.config import Task
from service.commands.bench import protocols
from service.commands.bench.connection import Endpoint
from service.commands.bench.infer_messages import answer_start
from service.commands.bench.protocols import (
    RequestSpec,
    WorkOrder,
    bytes_tensor,
    check_answer,
    grpc_requests,
    v1_requests,
    v2_requests,
)
from service.commands.console.exits import RefusedError

FILE = b"\xff\xd8 a file"
SERVICE = Endpoint("127.0.0.1", 8000, "/below", headers={"Authorization": "Bearer key"})


def order(images: int = 1) -> WorkOrder:
    return WorkOrder(Task.CLASSIFY, "demo", FILE, images, timeout_seconds=2.5)


def sent(spec: RequestSpec) -> bytes:
    return spec.target.request(spec.payload.body, spec.payload.media_type)


def parsed(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_v1_sends_the_file_as_it_is() -> None:
    first, headers, body = parsed(sent(v1_requests(SERVICE, order())))
    assert first == "POST /below/v1/classify?timeout=2.5&model=demo HTTP/1.1"
    assert headers["Authorization"] == "Bearer key"
    assert body == FILE


def test_v2_sends_the_files_as_a_binary_tensor_behind_its_header() -> None:
    spec = v2_requests(SERVICE, order(images=3))
    first, headers, body = parsed(sent(spec))
    length = int(headers["Inference-Header-Content-Length"])
    document, tensor = json.loads(body[:length]), body[length:]

    assert first == "POST /below/v2/models/demo/infer HTTP/1.1"
    assert headers["Authorization"] == "Bearer key"
    assert int(headers["Content-Length"]) == len(body)
    (image,) = document["inputs"]
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "BYTES", [3])
    assert image["parameters"] == {"binary_data_size": len(tensor)}
    assert tensor == 3 * (struct.pack("<I", len(FILE)) + FILE)
    assert [each["name"] for each in document["outputs"]] == ["class_ids", "scores", "labels"]
    assert all(each["parameters"] == {"binary_data": True} for each in document["outputs"])
    assert document["parameters"] == {"timeout": 2_500_000}
    assert spec.images == 3


def test_grpc_carries_the_same_tensor_to_the_same_host() -> None:
    spec = grpc_requests(SERVICE, order(images=2), port=9001)
    assert str(spec.target).startswith("gRPC at 127.0.0.1:9001 ")
    assert sent(spec).endswith(bytes_tensor([FILE, FILE]))
    assert spec.payload.is_answered_by(answer_start("demo") + b"\x12\x010")
    assert not spec.payload.is_answered_by(answer_start("other"))


def test_grpc_without_its_extra_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocols, "find_spec", lambda _: None)
    with pytest.raises(
        RefusedError, match=r"--protocol grpc needs grpcio: install the extra grpc: pip"
    ):
        grpc_requests(SERVICE, order(), port=9001)


@asynccontextmanager
async def answering(status: str, body: bytes) -> AsyncIterator[Endpoint]:
    """Answer every connection's first request with the same bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)))
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], "")


async def test_a_result_passes_the_check() -> None:
    async with answering("200 OK", b'{"model_name":"demo","outputs":[]}') as service:
        await check_answer(v2_requests(service, order()), answer_seconds=5)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            "400 Bad Request",
            b'{"error":"no image"}',
            r"/v2/models/demo/infer answers 400: no image$",
        ),
        ("502 Bad Gateway", b"<html>", r"answers 502: <html>$"),
        ("200 OK", b'{"model_name":"other"}', r"answers b'\{\"model_name\":\"other\"\}'$"),
    ],
)
async def test_an_answer_without_a_result_is_refused_with_its_sentence(
    status: str, body: bytes, message: str
) -> None:
    async with answering(status, body) as service:
        with pytest.raises(RefusedError, match=message):
            await check_answer(v2_requests(service, order()), answer_seconds=5)


@pytest.mark.parametrize("protocol", ["v2", "grpc"])
async def test_a_service_that_is_not_there_is_refused(protocol: str) -> None:
    async with answering("200 OK", b"") as service:
        pass
    spec = (
        v2_requests(service, order())
        if protocol == "v2"
        else grpc_requests(service, order(), service.port)
    )
    with pytest.raises(RefusedError, match=f"{service.port}.* cannot be reached: "):
        await check_answer(spec, answer_seconds=5)
