"""Limits of calls by gRPC: places, sizes, and answers that are not read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from fastapi import FastAPI

from service import metrics
from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.receiving import MessageReceiver
from service.web.grpc.server import SERVICE, WINDOW_BYTES
from support.api_requests import photo
from support.grpc_calls import GrpcClient, grpc_client, infer_request
from support.service_fakes import FakeEngines, fake_app, until_engines_have

Code = grpc.StatusCode


def rejected(reason: str) -> float:
    value: float = metrics.REJECTED.labels(reason)._value.get()
    return value


async def test_a_call_that_finds_no_place_exhausts_a_resource(
    engines: FakeEngines,
) -> None:
    settings = Settings(max_queue_requests=1)
    app = fake_app(settings, engines)
    engines.hang = True
    async with grpc_client(app, settings) as client:
        first = client.start(infer_request(photo()))
        await until_engines_have(engines, 1)
        code, details = await client.failure(infer_request(photo()))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "OVERLOCK_MAX_QUEUE_REQUESTS" in details
        assert client.trailers["retry-after"] == "3"
        first.cancel()


async def test_a_message_that_is_too_large_exhausts_a_resource_and_is_counted(
    grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    before = rejected("body-too-large")
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        code, details = await grpc_calls.failure(
            infer_request(bytes(200_000)), compression=compression
        )
        assert code is Code.RESOURCE_EXHAUSTED
        assert "larger than max" in details
    async with asyncio.timeout(5):
        while rejected("body-too-large") < before + 2:
            await asyncio.sleep(0.001)
    assert not engines.images


SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
"""Options of a client that takes 64 KiB before it reads."""


async def test_answers_that_nobody_reads_refuse_more_calls(
    app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.grpc.unary.MAX_UNSENT_BYTES", 2**20)
    async with grpc_client(app, settings, *SMALL_WINDOW) as client:
        method: Any = client.channel.unary_stream(f"/{SERVICE}/ModelInfer")
        request = infer_request(photo(1200, 800), model="demo-segment")
        unread = [method(request.SerializeToString()) for _ in range(2)]
        async with asyncio.timeout(20):
            while (await refusal(client)) is None:
                await asyncio.sleep(0.01)
        code, details = await client.failure(infer_request(photo()))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "clients that do not read" in details
        assert (await client.call(messages.ServerLiveRequest())).live
        for each in unread:
            each.cancel()
        async with asyncio.timeout(5):
            while (await refusal(client)) is not None:
                await asyncio.sleep(0.01)


async def refusal(client: GrpcClient) -> str | None:
    try:
        await client.call(messages.ServerMetadataRequest())
    except grpc.aio.AioRpcError as error:
        return error.details()
    return None


async def test_a_call_without_a_message_is_an_invalid_argument(grpc_calls: GrpcClient) -> None:
    method: Any = grpc_calls.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await method(iter(()))
    assert failure.value.code() is Code.INVALID_ARGUMENT
    assert failure.value.details() == "The call has no message."


async def test_a_message_has_to_arrive_in_the_default_time(engines: FakeEngines) -> None:
    settings = Settings(default_timeout_seconds=0.2)
    app = fake_app(settings, engines)
    async with grpc_client(app, settings) as client:
        method: Any = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")
        call = method()  # nothing is written
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call
        assert failure.value.code() is Code.DEADLINE_EXCEEDED
        assert failure.value.details() == "There was no answer within 0.2 seconds."


async def test_a_message_that_waits_to_be_received_waits_at_the_client(
    engines: FakeEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, place_is_free = Settings(), asyncio.Event()

    async def receive(_: MessageReceiver, read: Callable[[], Awaitable[bytes]]) -> bytes:
        await place_is_free.wait()
        return await read()

    monkeypatch.setattr(MessageReceiver, "receive", receive)
    async with (
        grpc_client(fake_app(settings, engines), settings) as client,
        counting_proxy(client.port) as (port, counts),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        method: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        body = infer_request(bytes(10 * 2**20)).SerializeToString()
        calls = [method(body) for _ in range(3)]
        async with asyncio.timeout(5):
            while counts["sent"] < 3 * WINDOW_BYTES:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert counts["sent"] < 4 * WINDOW_BYTES
        place_is_free.set()
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failure, grpc.aio.AioRpcError)
            assert failure.code() is Code.INVALID_ARGUMENT  # zeros are no image
        assert counts["sent"] > 3 * len(body)


@asynccontextmanager
async def counting_proxy(port: int) -> AsyncIterator[tuple[int, Counter[str]]]:
    """Pass connections on, and count the bytes that clients send."""
    counts: Counter[str] = Counter()
    connections: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await reader.read(2**16):
                counts[way] += len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):  # at the end
            await asyncio.gather(
                pump(reader, inner_writer, "sent"), pump(inner_reader, writer, "received")
            )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], counts
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections)
