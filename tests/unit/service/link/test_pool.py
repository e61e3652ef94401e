"""The engines of a generation, and the change from one to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from msgspec.structs import replace

from model.config import Task
from service.api.errors import InvalidParameterError, NotReadyError, UnknownModelError
from service.link.client import EngineClient
from service.link.messages import InferenceResult, ModelInfo, NetworkInput, Question, Welcome
from service.link.pool import EnginePool, Generations
from support.service_fakes import CLASSIFIER, DETECTOR, SEGMENTER, WELCOME

BIRDS = replace(CLASSIFIER, name="birds", weights_sha256="ef" * 32)
RETRAINED = replace(BIRDS, weights_sha256="01" * 32)
IMAGE = cast("NetworkInput", object())
ANSWER = cast("InferenceResult", object())


class FakeClient:
    """An engine that a test makes ready."""

    def __init__(self, *models: ModelInfo, ready: bool = True, work: float = 0.0) -> None:
        self.offer: Welcome | None = replace(WELCOME, models=models) if models else None
        self.ready = ready
        self.load = work, 0
        self.warm = asyncio.Event()
        self.asked: list[ModelInfo] = []
        self.closed = False
        if ready:
            self.warm.set()

    offers = EngineClient.offers

    async def run(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True

    async def submit(self, model: ModelInfo, *_: object, **__: object) -> InferenceResult:
        self.asked.append(model)
        return ANSWER

    def __getattr__(self, name: str) -> object:
        return {"_offer": self.offer}[name]


def pool(*clients: FakeClient, generation: int = 1) -> EnginePool:
    return EnginePool(generation, cast("list[EngineClient]", list(clients)))


def submitted(engines: EnginePool, model: ModelInfo) -> Awaitable[InferenceResult]:
    return engines.submit(model, Question(model.task), IMAGE, deadline=1.0, timeout_seconds=1.0)


async def test_without_a_name_the_first_model_of_the_task_answers() -> None:
    engines = pool(FakeClient(CLASSIFIER, BIRDS, DETECTOR))
    assert engines.find(Task.CLASSIFY, None) is CLASSIFIER
    assert engines.find(Task.CLASSIFY, "birds") is BIRDS
    assert engines.find(Task.SEGMENT, None) is None


@pytest.mark.parametrize(
    ("task", "name", "error", "words"),
    [
        (Task.CLASSIFY, "moths", UnknownModelError, "'moths'; there are demo, birds."),
        (Task.DETECT, "moths", UnknownModelError, "there are demo, birds, demo-segment."),
        (Task.CLASSIFY, "demo-segment", InvalidParameterError, "can segment; to classify, there"),
        (Task.DETECT, "birds", InvalidParameterError, "to detect, there is no model."),
    ],
)
async def test_a_name_that_cannot_answer_is_told_with_those_that_can(
    task: Task, name: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pool(FakeClient(CLASSIFIER, BIRDS, SEGMENTER)).find(task, name)


async def test_before_an_engine_has_been_ready_no_name_is_unknown() -> None:
    with pytest.raises(NotReadyError):
        pool(FakeClient(ready=False)).find(Task.CLASSIFY, "birds")


async def test_only_an_engine_with_the_same_weights_is_asked() -> None:
    idle, busy = FakeClient(RETRAINED), FakeClient(BIRDS, work=5.0)
    engines = pool(idle, busy)
    await submitted(engines, BIRDS)
    assert (idle.asked, busy.asked) == ([], [BIRDS])
    with pytest.raises(NotReadyError, match="No engine offers birds now"):
        await submitted(engines, replace(BIRDS, weights_sha256=None))


@asynccontextmanager
async def running(generations: Generations) -> AsyncIterator[list[tuple[int, list[int]]]]:
    """Run them; yield what they report, the current generation and those that are held."""
    reports: list[tuple[int, list[int]]] = []
    generations.on_change = lambda: reports.append(
        (generations.current.generation, generations.held)
    )
    task = asyncio.create_task(generations.run())
    await asyncio.sleep(0)
    try:
        yield reports
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_generation_takes_requests_once_all_of_its_engines_are_ready() -> None:
    old, slow = FakeClient(CLASSIFIER), FakeClient(BIRDS, ready=False)
    generations = Generations(pool(old))
    after = pool(FakeClient(BIRDS), slow, generation=2)
    async with running(generations) as reports:
        switching = asyncio.create_task(generations.switch(after))
        await asyncio.sleep(0.01)
        assert generations.current.generation == 1
        assert generations.held == [1, 2]
        slow.ready = True
        slow.warm.set()
        await switching
        assert generations.current is after
        await until(lambda: old.closed)
    assert reports == [(2, [1, 2]), (2, [2])]
    assert slow.closed


async def test_a_generation_is_held_until_its_last_request_is_done() -> None:
    old = FakeClient(CLASSIFIER)
    generations = Generations(pool(old))
    async with running(generations) as reports:
        with generations.entered() as held:
            await generations.switch(pool(FakeClient(BIRDS), generation=2))
            assert held.find(Task.CLASSIFY, None) is CLASSIFIER
            with generations.entered() as new:
                assert new.find(Task.CLASSIFY, None) is BIRDS
            await asyncio.sleep(0.01)
            assert not old.closed
            assert reports == [(2, [1, 2])]
        await until(lambda: old.closed)
    assert reports[-1] == (2, [2])


async def test_a_generation_is_shown_when_the_supervisor_says_so() -> None:
    generations = Generations(pool(FakeClient(CLASSIFIER)))
    async with running(generations) as reports:
        await generations.switch(pool(FakeClient(BIRDS), generation=2))
        assert generations.shown.generation == 1
        generations.show(1)
        assert generations.shown.generation == 1
        before = len(reports)
        generations.show(2)
        assert generations.shown is generations.current
        generations.show(2)
        assert len(reports) == before + 1
