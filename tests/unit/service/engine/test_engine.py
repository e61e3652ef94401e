"""What an engine counts and tells its workers, and when it rejects requests that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace

from service import metrics
from service.engine import loading
from service.engine.device import EngineDevice
from service.engine.engine import Engine
from service.engine.loading import load, watch
from service.engine.runner import Runner
from service.link.messages import (
    ArrayHeader,
    FallbackInfo,
    ModelInfo,
    Refusal,
    Submit,
    ToWorker,
)
from service.link.sockets import LinkServer, Received
from service.settings import load_settings
from support.service_fakes import CLASSIFIER

COMPILE, RECORD = FallbackInfo("compile", "no compiler"), FallbackInfo("record", "no")
DEVICE = EngineDevice("cuda:1", "cuda:0")


class FallenBack:
    """A runner that could not compile its model, and later cannot record it."""

    def __init__(self, settings: object, specs: object, device: object, *_: object) -> None:
        assert device == DEVICE
        self.device = torch.device("cpu")
        self.models: tuple[ModelInfo, ...] = (replace(CLASSIFIER, fallbacks=(COMPILE,)),)
        self.rerecorded: Callable[[], None] = lambda: None
        self.fell_back: Callable[[str], None] = lambda _: None

    def warm_up_input_sizes(self, _: object) -> tuple[()]:
        return ()

    def on_compilation(self, call: Callable[[], None]) -> None:
        """Compile nothing."""

    def on_fallback(self, call: Callable[[str], None]) -> None:
        self.fell_back = call

    def on_rerecording(self, call: Callable[[], None]) -> None:
        self.rerecorded = call


def counted(what: str) -> float:
    return float(metrics.GPU_FALLBACKS.labels(what)._value.get())


async def test_fallbacks_are_counted_at_the_start_and_later_and_told_to_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "Runner", FallenBack)
    server = cast("LinkServer", object())
    engine = Engine(load_settings({}), (), DEVICE, server, tmp_path / "flight")
    compiled, recorded = counted("compile"), counted("record")
    runner = cast("FallenBack", load(load_settings({}), (), DEVICE, (1,), engine._scheduler))
    assert counted("compile") == compiled + 1
    watch(cast("Runner", runner), engine._workers)
    rerecordings = metrics.RERECORDINGS._value.get()
    runner.rerecorded()
    assert metrics.RERECORDINGS._value.get() == rerecordings + 1
    runner.models = (replace(runner.models[0], fallbacks=(COMPILE, RECORD)),)
    runner.fell_back("record")
    await asyncio.sleep(0)
    assert counted("record") == recorded + 1
    assert engine._workers._models == runner.models


class Server:
    """A link that keeps the refusals that are sent."""

    def __init__(self, expected: int) -> None:
        self.refused: list[int] = []
        self.moments: list[float] = []
        self.done = asyncio.Event()
        self._expected = expected

    def send(self, worker: bytes, *messages: tuple[ToWorker, Sequence[Any]]) -> bool:
        for message, _ in messages:
            assert isinstance(message, Refusal)
            self.refused.append(message.request_id)
            self.moments.append(time.monotonic())
        if len(self.refused) == self._expected:
            self.done.set()
        return True


async def test_waiting_requests_are_rejected_at_their_deadlines_while_the_device_is_busy(
    tmp_path: Path,
) -> None:
    server = Server(expected=3)
    engine = Engine(load_settings({}), (), DEVICE, cast("LinkServer", server), tmp_path / "flight")
    engine._workers.announce((CLASSIFIER,))
    now = time.monotonic()
    # The first deadline comes last but one, so that a timer has to be set for an earlier one.
    deadlines = {1: now + 0.04, 2: now + 0.06, 3: now + 0.02}
    for request_id, deadline in deadlines.items():
        submit = Submit(
            request_id,
            CLASSIFIER.operation,
            CLASSIFIER.weights_sha256,
            ArrayHeader((1, 1, 3), "|u1"),
            (224, 224),
            (1, 1),
            deadline,
            timeout_seconds=1.0,
        )
        engine._admit(Received(b"worker", submit, (memoryview(bytes(3)),)), submit)
    await asyncio.wait_for(server.done.wait(), 10)
    assert server.refused == [3, 1, 2]
    for request_id, moment in zip(server.refused, server.moments, strict=True):
        assert moment >= deadlines[request_id]
