from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from benchmarks.serving.payload import Payload
from benchmarks.serving.static_responder import ANSWER
from service.commands.bench.connection import Endpoint
from service.commands.bench.generator import (
    NO_ANSWER,
    LoadGenerator,
    WrongAnswerError,
    poisson_arrivals,
)

PAYLOADS = [Payload(b"an image", class_id=0)]
REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def streaming(handler: Handler) -> AsyncIterator[int]:
    """Serve on a free port with a handler for each connection."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def target(port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port, "/")


async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(ANSWER)


async def read_request(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(PAYLOADS[0].body))


async def test_closed_loop_never_has_more_requests_under_way_than_its_concurrency() -> None:
    under_way, most = 0, 0

    async def answer_a_little_later(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal under_way, most
        while True:
            await read_request(reader)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)  # let the others in
            under_way -= 1
            writer.write(ANSWER)

    async with streaming(answer_a_little_later) as port:
        samples = await LoadGenerator(target(port), PAYLOADS).closed_loop(3, seconds=0.2)

    assert most == 3
    assert len(samples) > 3
    assert {sample.status for sample in samples} == {200}


async def test_open_loop_counts_a_latency_from_the_moment_the_request_was_due() -> None:
    arrivals = [0.0, 0.05, 0.1]
    waiting: list[asyncio.StreamWriter] = []

    async def answer_when_all_have_come(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await read_request(reader)
        waiting.append(writer)
        if len(waiting) == len(arrivals):
            for each in waiting:
                each.write(ANSWER)

    async with streaming(answer_when_all_have_come) as port:
        samples = await LoadGenerator(target(port), PAYLOADS).open_loop(arrivals)

    # All are answered when the last has come: the first waited for as long as it is older.
    ends = [sample.due_seconds + sample.latency_seconds for sample in samples]
    assert [sample.due_seconds for sample in samples] == arrivals
    assert min(ends) >= arrivals[-1]
    assert samples[0].latency_seconds >= arrivals[-1] - arrivals[0]


async def test_open_loop_sends_on_time_although_nothing_is_answered() -> None:
    arrivals = [0.0, 0.02, 0.04]
    came: list[float] = []

    async def hang_up_after_the_last(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await read_request(reader)
        came.append(asyncio.get_running_loop().time())
        connections.append(writer)
        if len(came) == len(arrivals):
            for each in connections:
                each.close()

    connections: list[asyncio.StreamWriter] = []
    async with streaming(hang_up_after_the_last) as port:
        samples = await LoadGenerator(target(port), PAYLOADS).open_loop(arrivals)

    assert len(came) == len(arrivals)
    assert {sample.status for sample in samples} == {NO_ANSWER}
    assert all(math.isinf(sample.latency_seconds) for sample in samples)


async def test_a_refusal_that_closes_its_connection_does_not_break_the_next_request() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(REFUSAL)
        writer.close()

    async with streaming(refuse) as port:
        samples = await LoadGenerator(target(port), PAYLOADS).open_loop([0.0, 0.03, 0.06])

    assert [sample.status for sample in samples] == [429, 429, 429]


async def test_a_closed_loop_ends_although_a_server_never_answers() -> None:
    async def keep_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with streaming(keep_silent) as port:
        generator = LoadGenerator(target(port), PAYLOADS, answer_seconds=0.05)
        samples = await generator.closed_loop(2, seconds=0.05)

    assert [sample.status for sample in samples] == [NO_ANSWER, NO_ANSWER]


async def test_an_answer_to_another_image_ends_the_run() -> None:
    async with streaming(answer_at_once) as port:
        generator = LoadGenerator(target(port), [Payload(b"an image", class_id=7)])
        with pytest.raises(WrongAnswerError, match="class 7"):
            await generator.open_loop([0.0])


async def test_a_real_network_may_have_its_own_opinion() -> None:
    async with streaming(answer_at_once) as port:
        images = [Payload(b"an image", class_id=None)]
        (sample,) = await LoadGenerator(target(port), images).open_loop([0.0])
    assert sample.status == 200


def test_poisson_arrivals_have_their_rate_and_an_exponential_gap() -> None:
    arrivals = poisson_arrivals(100.0, 200.0, seed=1)
    gaps = np.diff(arrivals)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 200.0
    # 20,000 arrivals: one standard deviation of their number is 141, 0.7 %.
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    # An exponential distribution's standard deviation is its mean.
    assert float(gaps.std()) == pytest.approx(float(gaps.mean()), rel=0.03)


def test_poisson_arrivals_repeat_with_their_seed() -> None:
    assert poisson_arrivals(50.0, 2.0, seed=3) == poisson_arrivals(50.0, 2.0, seed=3)
    assert poisson_arrivals(50.0, 2.0, seed=3) != poisson_arrivals(50.0, 2.0, seed=4)
