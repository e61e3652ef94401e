from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from model.config import Operation
from service.api.errors import DeadlineExceededError, InferenceError, NotReadyError, QueueFullError
from service.link.client import SILENCE_SECONDS, EngineClient
from service.link.messages import (
    Answer,
    Cancel,
    CostInfo,
    Crash,
    Hello,
    InferenceResult,
    ModelInfo,
    NetworkInput,
    Question,
    Refusal,
    Returned,
    Submit,
    Welcome,
)
from service.link.pool import EnginePool
from service.link.sockets import LinkServer, Received, array_from, header_of
from support.service_fakes import CLASSIFIER

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
Handler = Callable[["FakeEngine", Received, Submit], Awaitable[None]]


class FakeEngine:
    """The engine's end of the link with a scripted reaction to requests."""

    def __init__(self, address: Path, react: Handler, incarnation: str, *, ready: bool) -> None:
        self.server = LinkServer(address)
        self.react = react
        self.incarnation = incarnation
        self.ready = ready
        self.crash: Crash | None = None
        self.waits: dict[Operation, float] = {}
        self.costs: tuple[CostInfo, ...] = ()
        self.models: tuple[ModelInfo, ...] = (CLASSIFIER,)
        self.submits: list[Submit] = []
        self.cancelled: list[int] = []
        self.greeted = False

    def welcome(self) -> Welcome:
        return Welcome(
            self.incarnation, self.ready, self.models, self.costs, 0.0, self.waits, crash=self.crash
        )

    async def run(self) -> None:
        async for received in self.server.received():
            match received.message:
                case Hello():
                    self.greeted = True
                    self.server.send(received.worker, (self.welcome(), ()))
                case Submit() as submit:
                    self.submits.append(submit)
                    await self.react(self, received, submit)
                case Cancel(request_id):
                    self.cancelled.append(request_id)


async def answer_with_double(engine: FakeEngine, received: Received, submit: Submit) -> None:
    doubled = array_from(submit.image, received.frames[0]).astype(np.float32) * 2
    answer = Answer(submit.request_id, (header_of(doubled),), 0.25, 0.5, 3, 1.5, {})
    engine.server.send(received.worker, (answer, [doubled]))


async def stay_silent(engine: FakeEngine, received: Received, submit: Submit) -> None:
    """Keep the request."""


async def refuse(engine: FakeEngine, received: Received, submit: Submit) -> None:
    refusal = Refusal(submit.request_id, "queue-full", "9 requests are waiting.", 2.5)
    engine.server.send(received.worker, (refusal, ()))


@asynccontextmanager
async def running(
    address: Path,
    react: Handler,
    incarnation: str = "first",
    *,
    ready: bool = True,
    crash: Crash | None = None,
) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(address, react, incarnation, ready=ready)
    engine.crash = crash
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        engine.server.close()


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    pool = EnginePool(1, [EngineClient(tmp_path / "engine.sock", "http-0")])
    task = asyncio.create_task(pool.run())
    yield pool
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def submit(pool: EnginePool, timeout_seconds: float = 5.0) -> asyncio.Task[InferenceResult]:
    deadline = time.monotonic() + timeout_seconds
    return asyncio.create_task(
        pool.submit(
            CLASSIFIER,
            Question(CLASSIFIER.task),
            NetworkInput(IMAGE, (3, 4), (20, 30)),
            deadline=deadline,
            timeout_seconds=timeout_seconds,
        )
    )


async def test_an_image_crosses_and_its_arrays_come_back(pool: EnginePool, tmp_path: Path) -> None:
    async with running(tmp_path / "engine.sock", answer_with_double):
        await until(lambda: pool.ready)
        result = await submit(pool)
    np.testing.assert_array_equal(result.arrays[0], IMAGE.astype(np.float32) * 2)
    assert (result.queue_seconds, result.inference_seconds, result.batch_size) == (0.25, 0.5, 3)


async def test_an_engine_that_never_was_ready_refuses_at_once(pool: EnginePool) -> None:
    with pytest.raises(NotReadyError):
        await submit(pool)


async def test_an_engine_that_loads_is_not_ready(pool: EnginePool, tmp_path: Path) -> None:
    async with running(tmp_path / "engine.sock", answer_with_double, ready=False) as engine:
        await asyncio.sleep(0.1)
        assert not pool.ready
        engine.ready = True
        await until(lambda: pool.ready)


async def test_a_refusal_arrives_as_the_error_it_was(pool: EnginePool, tmp_path: Path) -> None:
    async with running(tmp_path / "engine.sock", refuse):
        await until(lambda: pool.ready)
        with pytest.raises(QueueFullError) as raised:
            await submit(pool)
    assert raised.value.detail == "9 requests are waiting."
    assert raised.value.retry_after_seconds == 2.5


async def test_a_silent_engine_costs_the_caller_its_timeout_and_is_told(
    pool: EnginePool, tmp_path: Path
) -> None:
    async with running(tmp_path / "engine.sock", stay_silent) as engine:
        await until(lambda: pool.ready)
        with pytest.raises(DeadlineExceededError):
            await submit(pool, timeout_seconds=0.1)
        await until(lambda: engine.cancelled == [engine.submits[0].request_id])


async def test_a_client_that_leaves_withdraws_its_request(pool: EnginePool, tmp_path: Path) -> None:
    async with running(tmp_path / "engine.sock", stay_silent) as engine:
        await until(lambda: pool.ready)
        waiting = submit(pool)
        await until(lambda: len(engine.submits) == 1)
        waiting.cancel()
        await until(lambda: engine.cancelled == [engine.submits[0].request_id])


async def test_the_next_incarnation_gets_the_requests_of_a_dead_engine(
    pool: EnginePool, tmp_path: Path
) -> None:
    async with running(tmp_path / "engine.sock", stay_silent) as first:
        await until(lambda: pool.ready)
        waiting = submit(pool)
        await until(lambda: len(first.submits) == 1)
    async with running(tmp_path / "engine.sock", answer_with_double, "second"):
        result = await waiting
    np.testing.assert_array_equal(result.arrays[0], IMAGE.astype(np.float32) * 2)


async def test_a_request_that_comes_while_a_restarted_engine_loads_waits_for_it(
    pool: EnginePool, tmp_path: Path
) -> None:
    address = tmp_path / "engine.sock"
    async with running(address, answer_with_double):
        await until(lambda: pool.ready)
    async with running(address, answer_with_double, "second", ready=False) as second:
        await until(lambda: not pool.ready)
        waiting = submit(pool)
        await asyncio.sleep(0.1)
        assert second.submits == []
        second.ready = True
        assert (await waiting).batch_size == 3


async def test_a_request_that_no_engine_had_survives_any_number_of_restarts(
    pool: EnginePool, tmp_path: Path
) -> None:
    async def hand_back(engine: FakeEngine, received: Received, submit: Submit) -> None:
        engine.server.send(received.worker, (Returned(submit.request_id), ()))

    address = tmp_path / "engine.sock"
    async with running(address, stay_silent):
        await until(lambda: pool.ready)
    waiting = submit(pool)  # sent to an engine that is dead, and delivered to the next one
    for incarnation in ("second", "third", "fourth"):
        async with running(address, hand_back, incarnation, ready=False) as engine:
            await until(lambda engine=engine: engine.greeted)  # type: ignore[misc]
    async with running(address, answer_with_double, "fifth"):
        assert (await waiting).batch_size == 3


async def test_a_request_that_two_engines_died_with_is_not_sent_again(
    pool: EnginePool, tmp_path: Path
) -> None:
    address = tmp_path / "engine.sock"
    async with running(address, stay_silent) as first:
        await until(lambda: pool.ready)
        waiting = submit(pool)
        await until(lambda: len(first.submits) == 1)
    number = first.submits[0].request_id
    async with running(address, stay_silent, "second", crash=Crash("first", (number,))) as second:
        await until(lambda: len(second.submits) == 1)
        assert second.submits[0].alone
    async with running(
        address, answer_with_double, "third", crash=Crash("second", (number,))
    ) as third:
        with pytest.raises(InferenceError, match="died twice"):
            await waiting
        assert third.submits == []


async def test_a_request_that_only_waited_when_engines_died_is_not_blamed(
    pool: EnginePool, tmp_path: Path
) -> None:
    address = tmp_path / "engine.sock"
    async with running(address, stay_silent) as first:
        await until(lambda: pool.ready)
        waiting = submit(pool)
        await until(lambda: len(first.submits) == 1)
    for before, incarnation in (("first", "second"), ("second", "third")):
        crash = Crash(before, (999,))
        async with running(address, stay_silent, incarnation, crash=crash) as engine:
            await until(lambda engine=engine: len(engine.submits) == 1)  # type: ignore[misc]
            assert not engine.submits[0].alone
    async with running(address, answer_with_double, "fourth"):
        assert (await waiting).batch_size == 3


async def test_a_dead_engine_is_noticed_at_once_and_then_the_answer_is_not_ready(
    pool: EnginePool, tmp_path: Path
) -> None:
    async with running(tmp_path / "engine.sock", stay_silent):
        await until(lambda: pool.ready)
    async with asyncio.timeout(SILENCE_SECONDS / 2):  # long before silence would tell
        while pool.ready:
            await asyncio.sleep(0.005)
    with pytest.raises(NotReadyError, match="restarting"):
        await submit(pool, timeout_seconds=0.1)


async def test_a_request_goes_to_the_engine_with_the_least_work_counting_what_was_just_sent(
    tmp_path: Path,
) -> None:
    pool = EnginePool(1, [EngineClient(tmp_path / name, "http-0") for name in ("a", "b")])
    task = asyncio.create_task(pool.run())
    costs = (CostInfo(CLASSIFIER.operation, (3, 4), 0.0, 1.0),)
    async with (
        running(tmp_path / "a", stay_silent) as first,
        running(tmp_path / "b", stay_silent, "other") as second,
    ):
        first.costs = second.costs = costs
        await until(lambda: len(pool.offers) == 2 and all(offer.costs for offer in pool.offers))
        waiting = [submit(pool) for _ in range(6)]
        await until(lambda: len(first.submits) + len(second.submits) == 6)
        assert (len(first.submits), len(second.submits)) == (3, 3)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
