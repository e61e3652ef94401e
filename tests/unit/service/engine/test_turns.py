"""A full batch is launched behind the running one; results, faults and deaths stay its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from model.config import Operation, Task
from service.api.errors import ServiceError
from service.engine import device as device_module
from service.engine.batches import BatchResult, DeviceFailedError, Fault, Input
from service.engine.device import Device, InFlightJournal
from service.engine.engine import Turns
from service.engine.scheduling.queues import Batch, QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler
from service.engine.workers import Work, Workers
from service.link.messages import Submit

if TYPE_CHECKING:
    from service.engine.runner import Runner

SQUARE = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
LARGEST = 2
PATIENCE_SECONDS = 10.0


@dataclass
class SlowRunner:
    """Runs batches that end when a test says so.

    Attributes:
        launches: as ``Runner.launches``.
        begun: names of the requests of each batch, as they got to the device.
        faults: what a batch that holds a request raises, by its name.
        launch_faults: what launching it raises.
    """

    launches: bool = True
    begun: list[str] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    launch_faults: dict[str, Exception] = field(default_factory=dict)
    host_device: str = "cuda:0"
    ends: dict[str, threading.Event] = field(default_factory=dict)

    def end_of(self, names: str) -> threading.Event:
        return self.ends.setdefault(names, threading.Event())

    def launch(
        self, _: Task, inputs: Sequence[Input], __: object, ___: int
    ) -> Callable[[], BatchResult]:
        names = "".join(cast("str", each.image) for each in inputs)
        self.begun.append(names)
        for name, error in self.launch_faults.items():
            if name in names:
                raise error

        def wait() -> BatchResult:
            assert self.end_of(names).wait(PATIENCE_SECONDS)
            for name, error in self.faults.items():
                if name in names:
                    raise error
            return BatchResult(((np.zeros(1),),) * len(inputs), 0.01, 0.01)

        return wait

    def run(self, task: Task, inputs: Sequence[Input], *rest: Any) -> BatchResult:
        return self.launch(task, inputs, *rest)()

    def fault_of(self, error: Exception) -> Fault:
        return Fault.DEVICE_LOST if isinstance(error, SystemError) else Fault.REQUEST


@dataclass
class FakeWorkers:
    """Notes outcomes, in order."""

    outcomes: list[str] = field(default_factory=list)

    def answer(self, batch: Batch[Work], *_: object, **__: object) -> None:
        self.outcomes.append("".join(cast("str", each.payload.image) for each in batch.requests))

    def refuse(self, _: bytes, submit: Submit, error: ServiceError, *, arrived: float) -> None:
        self.outcomes.append(f"{chr(submit.request_id)}: {error.slug}")

    def refuse_expired(self) -> None:
        """Let none expire."""


class Engine:
    """What an engine is made of, without its link."""

    def __init__(self, journal: Path, *, launches: bool = True) -> None:
        self.path = journal
        self.runner = SlowRunner(launches)
        self.workers = FakeWorkers()
        self.scheduler: Scheduler[Work] = Scheduler(
            clock=time.monotonic, max_waiting=99, batch_sizes=(1, LARGEST)
        )
        self.turns = Turns(
            self.scheduler,
            cast("Workers", self.workers),
            Device(InFlightJournal(journal, "first")),
            LARGEST,
        )

    def admit(self, names: str, *, alone: bool = False) -> None:
        for name in names:
            submit = cast("Submit", FakeSubmit(ord(name)))
            work = Work(b"worker", submit, cast("Any", name))
            now = time.monotonic()
            self.scheduler.admit(Request(work.identity, SQUARE, now, now + 60, work, alone=alone))
        self.turns.arrival.set()

    async def begins(self, *batches: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.runner.begun != [*batches]:
                await asyncio.sleep(0.001)

    async def comes_to(self, *outcomes: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.workers.outcomes != [*outcomes]:
                await asyncio.sleep(0.001)

    def on_device(self) -> str:
        entry = InFlightJournal(self.path, "second").last
        return "" if entry is None else "".join(chr(number) for _, number in entry.requests)


@dataclass(frozen=True)
class FakeSubmit:
    """A request's name, and its image's size."""

    request_id: int
    original_size: tuple[int, int] = (224, 224)
    layer: str | None = None
    class_ids: tuple[int, ...] = ()
    logits: bool = False


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(tmp_path / "flight")
    working = asyncio.create_task(made.turns.work(cast("Runner", made.runner)))
    yield made
    for end in made.runner.ends.values():
        end.set()
    working.cancel()
    await asyncio.wait({working})


async def test_a_full_batch_is_launched_before_the_results_of_the_running_one(
    engine: Engine,
) -> None:
    engine.admit("abcd")
    await engine.begins("ab", "cd")
    assert engine.workers.outcomes == []
    assert engine.on_device() == "abcd"
    engine.admit("ef")
    engine.runner.end_of("ab").set()
    await engine.begins("ab", "cd", "ef")
    await engine.comes_to("ab")
    assert engine.on_device() == "cdef"
    engine.runner.end_of("ef").set()  # a device ends them in order, whatever is set
    engine.runner.end_of("cd").set()
    await engine.comes_to("ab", "cd", "ef")
    assert engine.on_device() == ""


async def test_a_batch_that_may_grow_waits_until_it_is_full_or_the_device_is_free(
    engine: Engine,
) -> None:
    engine.admit("abc")
    await engine.begins("ab")
    await asyncio.sleep(0.02)
    assert engine.runner.begun == ["ab"]
    engine.admit("d")
    await engine.begins("ab", "cd")
    engine.admit("e")
    for names in ("ab", "cd"):
        engine.runner.end_of(names).set()
    await engine.begins("ab", "cd", "e")


async def test_suspects_run_alone_on_the_device(engine: Engine) -> None:
    engine.admit("p", alone=True)
    await engine.begins("p")
    engine.admit("ab")
    engine.admit("q", alone=True)
    await asyncio.sleep(0.02)
    assert engine.runner.begun == ["p"]
    assert engine.on_device() == "p"
    engine.runner.end_of("p").set()
    await engine.begins("p", "ab")
    await asyncio.sleep(0.02)
    assert engine.on_device() == "ab"
    engine.runner.end_of("ab").set()
    await engine.begins("p", "ab", "q")


@pytest.mark.parametrize("where", ["launch_faults", "faults"])
async def test_a_batch_that_fails_behind_another_leaves_that_one_its_results(
    engine: Engine, where: str
) -> None:
    getattr(engine.runner, where)["d"] = ValueError("odd pixels")
    engine.admit("abcd")
    await engine.begins("ab", "cd")
    for names in ("ab", "cd", "c", "d"):
        engine.runner.end_of(names).set()
    await engine.comes_to("ab", "c", "d: inference-failed")


async def test_a_batch_that_fails_before_another_leaves_that_one_its_results(
    engine: Engine,
) -> None:
    engine.runner.faults["a"] = ValueError("odd pixels")
    engine.admit("abcd")
    await engine.begins("ab", "cd")
    for names in ("ab", "cd", "a", "b"):
        engine.runner.end_of(names).set()
    await engine.comes_to("cd", "a: inference-failed", "b")


async def test_a_request_that_is_cancelled_while_its_batch_waits_is_not_tried_again(
    engine: Engine,
) -> None:
    engine.runner.faults["d"] = ValueError("odd pixels")
    engine.admit("abcd")
    await engine.begins("ab", "cd")
    engine.scheduler.cancel((b"worker", ord("c")))
    for names in ("ab", "cd", "d"):
        engine.runner.end_of(names).set()
    await engine.comes_to("ab", "d: inference-failed")


async def test_every_request_on_a_lost_device_is_a_suspect(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "flight")
    engine.runner.faults["a"] = SystemError("an illegal memory access")
    engine.admit("abcd")
    working = asyncio.create_task(engine.turns.work(cast("Runner", engine.runner)))
    await engine.begins("ab", "cd")
    for names in ("ab", "cd"):
        engine.runner.end_of(names).set()
    with pytest.raises(DeviceFailedError, match="illegal memory access"):
        await working
    assert engine.on_device() == "abcd"


@pytest.mark.slow
async def test_a_batch_hangs_when_its_own_turn_has_lasted_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "HANG_FLOOR_SECONDS", 2.0)
    engine = Engine(tmp_path / "flight")
    engine.admit("abcd")
    working = asyncio.create_task(engine.turns.work(cast("Runner", engine.runner)))
    await engine.begins("ab", "cd")
    await asyncio.sleep(1.2)
    engine.runner.end_of("ab").set()
    await engine.comes_to("ab")
    await asyncio.sleep(1.2)  # longer than its patience since it was launched
    assert not working.done()
    with pytest.raises(DeviceFailedError, match="A classify batch of 2 for net hangs"):
        await working
    assert engine.on_device() == "cd"
    engine.runner.end_of("cd").set()


async def test_a_device_that_cannot_say_what_failed_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "HANG_FLOOR_SECONDS", 0.1)
    engine, answered = Engine(tmp_path / "flight"), threading.Event()

    def fault_of(_: Exception) -> Fault:
        answered.wait(PATIENCE_SECONDS)
        return Fault.REQUEST

    monkeypatch.setattr(engine.runner, "fault_of", fault_of)
    engine.runner.launch_faults["a"] = ValueError("odd pixels")
    engine.admit("a")
    with pytest.raises(DeviceFailedError, match="hangs"):
        await engine.turns.work(cast("Runner", engine.runner))
    answered.set()


async def test_a_device_that_computes_on_the_host_runs_one_batch_at_a_time(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "flight", launches=False)
    engine.admit("abcd")
    working = asyncio.create_task(engine.turns.work(cast("Runner", engine.runner)))
    await engine.begins("ab")
    await asyncio.sleep(0.02)
    assert (engine.runner.begun, engine.on_device()) == (["ab"], "ab")
    for names in ("ab", "cd"):
        engine.runner.end_of(names).set()
    await engine.comes_to("ab", "cd")
    working.cancel()
