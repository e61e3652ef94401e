from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from service.commands.bench.generator import NO_ANSWER, LoadGenerator
from service.commands.bench.grpc_connection import METHOD, STATUS_OF, GrpcEndpoint
from service.commands.bench.loads import ImagePayload

Handler = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]

SERVICE, CALL = METHOD.strip("/").split("/")
PAYLOADS = [ImagePayload(b"an image", answer_start=b"an answer")]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Serve ModelInfer on a free port, as bytes."""
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        CALL: grpc.unary_unary_rpc_method_handler(handler)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def target(port: int, timeout_seconds: float | None = None) -> GrpcEndpoint:
    return GrpcEndpoint(
        "127.0.0.1",
        port,
        "demo",
        ("class_ids",),
        timeout_seconds=timeout_seconds,
        metadata={"authorization": "Bearer key"},
    )


async def test_a_closed_loop_calls_over_a_channel_for_each_client() -> None:
    peers: set[str] = set()
    bearers: set[object] = set()

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        assert b"an image" in request
        peers.add(context.peer())
        bearers.add(dict(context.invocation_metadata() or ())["authorization"])
        await asyncio.sleep(0)
        return b"an answer"

    async with serving(answer) as port:
        samples = await LoadGenerator(target(port), PAYLOADS).closed_loop(3, seconds=0.3)

    assert {sample.status for sample in samples} == {200}
    assert len(samples) > 3
    assert len(peers) == 3
    assert bearers == {"Bearer key"}


@pytest.mark.parametrize("code", [*STATUS_OF, grpc.StatusCode.INTERNAL], ids=lambda code: code.name)
async def test_a_status_of_grpc_is_counted_as_http_has_it(code: grpc.StatusCode) -> None:
    async def refuse(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(code, "for a reason")
        return b""

    async with serving(refuse) as port:
        connection = await target(port).open()
        answer = await connection.exchange(b"")
        await connection.close()

    assert (answer.status, answer.body) == (STATUS_OF.get(code, 500), b"for a reason")


async def test_a_server_that_is_not_there_gives_no_answer() -> None:
    async def never(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        raise AssertionError

    async with serving(never) as port:
        pass
    (sample,) = await LoadGenerator(target(port), PAYLOADS).open_loop([0.0])
    assert sample.status == NO_ANSWER
    assert math.isinf(sample.latency_seconds)


async def test_a_call_ends_with_its_timeout() -> None:
    ended = asyncio.Event()

    async def keep_silent(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with serving(keep_silent) as port:
        generator = LoadGenerator(target(port, timeout_seconds=0.05), PAYLOADS)
        (sample,) = await generator.open_loop([0.0])
        await ended.wait()

    assert sample.status == 504


async def test_a_load_that_ends_cancels_its_calls() -> None:
    ended = asyncio.Event()

    async def keep_silent(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with serving(keep_silent) as port:
        generator = LoadGenerator(target(port), PAYLOADS, answer_seconds=0.05)
        samples = await generator.closed_loop(1, seconds=0.05)
        await ended.wait()

    assert [sample.status for sample in samples] == [NO_ANSWER]
