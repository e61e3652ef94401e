"""Changes that are asked for, with generations that are ready at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from service.api.errors import UnknownModelError
from service.processes.changes import Changes
from service.processes.child import Child, StartFailedError
from service.processes.control_requests import take_request
from service.processes.counts import SupervisorCounts
from service.processes.reloads import ReloadError, Reloads, StoppingError
from service.processes.selection import RELOAD, Action, Change, Selection
from service.processes.state import ChangeOutcome, ConfiguredModel, ServiceState, message_of

LOAD, UNLOAD = Change(Action.LOAD, "moths"), Change(Action.UNLOAD, "moths")
SERVED = (ConfiguredModel("birds"), ConfiguredModel("moths"))


class ReadyGeneration:
    """A generation whose engines are ready, or fail, as soon as they are started."""

    sockets: tuple[str, ...] = ()
    ready = True

    def __init__(self, number: int, selection: Selection, failure: Exception | None) -> None:
        self.number = number
        self.selection = selection
        self._failure = failure

    def start(self) -> None:
        """Start nothing."""

    def establish(self) -> None:
        """Establish nothing."""

    async def until_ready(self, _: Changes) -> None:
        if self._failure is not None:
            raise self._failure

    async def end(self, _: asyncio.Event) -> None:
        """End nothing."""


class ObedientWorker:
    """An HTTP worker that sends requests where it is told to."""

    def __init__(self, changes: Changes) -> None:
        self.facts = {"generation": 1, "held": [1], "shown": 1}
        self.options: tuple[str, ...] = ()
        self.states: list[ServiceState] = []
        self.outcomes: list[ChangeOutcome] = []
        self._changes = changes

    def send(self, line: bytes) -> None:
        message = message_of(line)
        if isinstance(message, ChangeOutcome):
            self.outcomes.append(message)
            return
        self.states.append(message)
        number = message.generation
        self.facts = {"generation": number, "held": [number], "shown": message.shown}
        self._changes.note()


class NoCounts:
    """Counts that are lost."""

    def increment(self, _: object) -> None:
        """Lose it."""


class Bench:
    """Reloads with two workers, whose next generations a test lets fail.

    Attributes:
        failure: raised while the next generation starts.
        refusal: raised before any process is started.
        begun: the changes for which a generation was begun.
    """

    def __init__(self) -> None:
        changes = Changes()
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.begun: list[Change] = []
        self.workers = [ObedientWorker(changes) for _ in range(2)]
        self.reloads = Reloads(
            self._begin,
            cast("list[Child]", self.workers),
            changes,
            cast("SupervisorCounts", NoCounts()),
        )

    def _begin(self, number: int, before: Any, change: Change) -> Any:
        self.begun.append(change)
        if self.refusal is not None:
            raise self.refusal
        selection = Selection() if before is None else before.selection
        return ReadyGeneration(number, selection.after(change, ("birds", "moths")), self.failure)

    @property
    def models(self) -> set[tuple[ConfiguredModel, ...]]:
        """What the workers were told last of the models."""
        return {worker.states[-1].models for worker in self.workers}

    async def make(self, change: Change) -> int:
        async with asyncio.timeout(5):
            return await self.reloads.ask(change)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.reloads.run())
    yield bench
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_unforeseen_error_fails_the_reload_and_not_the_service(
    caplog: pytest.LogCaptureFixture, bench: Bench
) -> None:
    bench.refusal = ValueError("embedded null byte")
    for _ in range(2):
        with pytest.raises(ReloadError, match=r"unforeseen error, ValueError.'embedded null"):
            await bench.make(RELOAD)
    assert bench.reloads.generation.number == 1
    assert "Traceback" in caplog.text
    bench.refusal = None
    assert await bench.make(RELOAD) == 2


async def test_workers_are_told_which_models_are_served(bench: Bench) -> None:
    assert await bench.make(UNLOAD) == 2
    without = (ConfiguredModel("birds"), ConfiguredModel("moths", "UNAVAILABLE", "unloaded"))
    assert bench.models == {without}
    assert await bench.make(RELOAD) == 3
    assert bench.models == {without}
    # A worker that is started from now on begins with the same.
    option, line = bench.workers[0].options
    state = message_of(line)
    assert isinstance(state, ServiceState)
    assert (option, state.generation, state.shown) == ("--state", 3, 3)
    assert [(each.name, each.state) for each in state.models] == [
        (each.name, each.state) for each in without
    ]
    assert await bench.make(LOAD) == 4
    assert bench.models == {SERVED}


async def test_models_are_told_when_every_worker_has_changed(bench: Bench) -> None:
    await bench.make(UNLOAD)
    for worker in bench.workers:
        told = [
            (state.generation, state.shown, state.models == SERVED) for state in worker.states[-2:]
        ]
        assert told == [(2, 1, True), (2, 2, False)]


async def test_a_model_that_is_not_served_is_unloaded_at_once(bench: Bench) -> None:
    assert await bench.make(UNLOAD) == 2
    assert await bench.make(UNLOAD) == 2
    assert bench.begun == [RELOAD, UNLOAD]


async def test_a_failed_load_is_its_models_reason_until_it_is_loaded(bench: Bench) -> None:
    bench.failure = StartFailedError("moths.pth is half a file.")
    with pytest.raises(ReloadError, match="half a file"):
        await bench.make(LOAD)
    failed = ConfiguredModel("moths", "READY", "moths.pth is half a file.")
    assert bench.models == {(ConfiguredModel("birds"), failed)}
    assert {worker.states[-1].reload_error for worker in bench.workers} == {failed.reason}
    bench.failure = None
    await bench.make(LOAD)
    assert bench.models == {SERVED}


async def test_a_worker_starts_however_long_the_reason_of_a_failure_is(bench: Bench) -> None:
    bench.failure = StartFailedError("wrong " * 100_000)
    with pytest.raises(ReloadError):
        await bench.make(LOAD)
    assert all(len(word) < 1000 for worker in bench.workers for word in worker.options)


async def test_a_name_that_is_not_configured_is_no_failed_reload(bench: Bench) -> None:
    with pytest.raises(UnknownModelError, match="there are birds, moths"):
        await bench.make(Change(Action.LOAD, "beetles"))
    assert bench.reloads.generation.number == 1
    assert {len(worker.states) for worker in bench.workers} == {0}


async def test_equal_changes_in_a_row_are_one_and_keep_their_order(bench: Bench) -> None:
    asked = [UNLOAD, UNLOAD, LOAD, LOAD, LOAD, RELOAD, UNLOAD]
    async with asyncio.timeout(5):
        numbers = await asyncio.gather(*map(bench.reloads.ask, asked))
    assert numbers == [2, 2, 3, 3, 3, 4, 5]
    assert bench.begun == [RELOAD, UNLOAD, LOAD, RELOAD, UNLOAD]


async def test_a_service_that_ends_answers_all_who_wait_and_who_come() -> None:
    bench = Bench()
    running = asyncio.create_task(bench.reloads.run())
    await asyncio.sleep(0)
    waiting = [bench.reloads.ask(change) for change in (LOAD, UNLOAD)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for answer in [*waiting, bench.reloads.ask(LOAD)]:
        async with asyncio.timeout(5):
            with pytest.raises(StoppingError):
                await answer


@pytest.mark.parametrize(
    ("change", "failure", "slug"),
    [
        (LOAD, None, None),
        (LOAD, StartFailedError("half a file"), "load-failed"),
        (Change(Action.LOAD, "beetles"), None, "unknown-model"),
    ],
)
async def test_a_worker_gets_the_outcome_of_its_request(
    bench: Bench, change: Change, failure: Exception | None, slug: str | None
) -> None:
    bench.failure = failure
    facts = {"request_id": "a", "change": msgspec.to_builtins(change)}
    first, second = bench.workers
    take_request(cast("Child", first), facts, bench.reloads.ask)
    async with asyncio.timeout(5):
        while not first.outcomes:
            await asyncio.sleep(0)
    assert [(each.request_id, each.slug) for each in first.outcomes] == [("a", slug)]
    assert not second.outcomes


async def test_a_worker_is_told_that_the_service_stops() -> None:
    bench = Bench()
    running = asyncio.create_task(bench.reloads.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    facts = {"request_id": "a", "change": msgspec.to_builtins(LOAD)}
    take_request(cast("Child", bench.workers[0]), facts, bench.reloads.ask)
    await asyncio.sleep(0)
    (outcome,) = bench.workers[0].outcomes
    assert (outcome.slug, outcome.detail) == ("not-ready", "The service is stopping.")
