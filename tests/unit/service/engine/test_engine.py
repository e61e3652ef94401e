"""An engine counts what its device could not do, and tells its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from msgspec.structs import replace

from service import metrics
from service.engine import loading
from service.engine.device import EngineDevice
from service.engine.engine import Engine
from service.engine.loading import load, watch
from service.engine.runner import Runner
from service.link.messages import FallbackInfo, ModelInfo
from service.link.sockets import LinkServer
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
