"""The end of a start: a wrong setting ends the service, a lost device only the engine."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace

from model.config import Task
from model.inference import dtype_selection
from model.inference.dtype_selection import DtypeChoice
from model.kernels.gpu.failures import DeviceLostError
from model.remote.addresses import RemoteError
from model.remote.cache import RemoteWeights
from service.engine import loading
from service.engine.batches import DeviceFailedError
from service.engine.device import EngineDevice
from service.engine.loading import ConfigurationError, load, measured
from service.engine.runner import Runner
from service.engine.scheduling.queues import QueueKey
from service.engine.scheduling.scheduler import Scheduler
from service.processes.compile_lock import LOCK_NAME
from service.processes.handover import MeasuredCost, Measurements
from service.settings import ModelSpec, Settings, load_settings, specs_of
from support.service_fakes import CLASSIFIER

LOST = "an illegal memory access was encountered"


def start(pins: Path | None = None, **settings_by_name: str) -> None:
    scheduler = cast("Scheduler[Any]", object())
    settings = load_settings(settings_by_name)
    device = EngineDevice("cuda:1", "cuda:0")
    load(settings, specs_of(settings), device, (1, 2), scheduler, pins=pins)


@pytest.mark.parametrize(
    ("error", "ends_with"),
    [
        (ValueError("There is no weights file"), ConfigurationError),
        (DeviceLostError(LOST), DeviceFailedError),
    ],
    ids=["setting", "device"],
)
def test_a_device_that_is_lost_while_models_load_is_no_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, error: Exception, ends_with: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(loading, "Runner", fail)
    with pytest.raises(ends_with, match=str(error)):
        start()


def test_models_are_loaded_under_the_lock_of_the_compilers_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "compiled" / "key"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "triton"))

    def fail(*_: object) -> None:
        with (folder / LOCK_NAME).open("a") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise ValueError("loaded")

    monkeypatch.setattr(loading, "Runner", fail)
    with pytest.raises(ConfigurationError, match="loaded"):
        start()


def test_a_device_that_is_lost_in_the_warm_up_is_a_failed_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Losing:
        models = (CLASSIFIER,)
        device = torch.device("cpu")

        def __init__(self, *_: object) -> None:
            """Load nothing."""

        def warm_up_input_sizes(self, _: object) -> tuple[tuple[int, int], ...]:
            raise DeviceLostError(LOST)

    monkeypatch.setattr(loading, "Runner", Losing)
    with pytest.raises(DeviceFailedError, match=f"The device is lost: {LOST}"):
        start()


def test_weights_with_an_address_are_loaded_as_they_were_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched: list[tuple[object, ...]] = []
    loaded: list[str] = []

    def fetch(weights: str, folder: Path, *, pins: Path | None, show: object) -> RemoteWeights:
        fetched.append((weights, folder, pins))
        return RemoteWeights(tmp_path / "m.pth", f"{weights}?versionId=1", None)

    def runner(_: Settings, specs: list[ModelSpec], *__: object) -> None:
        loaded.extend(spec.weights for spec in specs)
        raise ValueError("enough")

    monkeypatch.setattr(loading, "fetch", fetch)
    monkeypatch.setattr(loading, "Runner", runner)
    pins = tmp_path / "weights.json"
    with pytest.raises(ConfigurationError, match="enough"):
        start(pins, classify_weights="s3://b/m.pth", cache_dir=str(tmp_path))
    assert fetched == [("s3://b/m.pth", tmp_path / "weights", pins)]
    assert loaded == ["s3://b/m.pth?versionId=1", "demo"]


def test_weights_that_cannot_be_fetched_are_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise RemoteError("s3://b/m.pth is not there.")

    monkeypatch.setattr(loading, "fetch", fetch)
    with pytest.raises(
        ConfigurationError, match=r"OVERLOCK_CLASSIFY_WEIGHTS: s3://b/m\.pth is not"
    ):
        start(classify_weights="s3://b/m.pth")


@pytest.mark.slow
def test_a_successor_takes_over_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({"classify_weights": "random", "segment_model": "off"})
    specs, sizes = specs_of(settings), (1, 2, 4)

    def started(known: Measurements | None) -> tuple[Runner, Scheduler[Any]]:
        scheduler: Scheduler[Any] = Scheduler(
            clock=time.monotonic, max_waiting=8, batch_sizes=sizes
        )
        device = EngineDevice("cpu", "cpu")
        return load(settings, specs, device, sizes, scheduler, known), scheduler

    runner, scheduler = started(None)
    scheduler.learn(QueueKey(runner.models[0].operation, (224, 224)), 4, 7.0)  # as traffic would
    known = measured(runner, scheduler)
    (cost,) = (each for each in known.costs if each.task is Task.CLASSIFY)
    assert {each.task for each in known.costs} == {Task.CLASSIFY, Task.EMBED, Task.EXPLAIN}
    assert cost.per_image_seconds > 0.5

    def measure(_: object) -> None:
        pytest.fail("the successor measures")

    monkeypatch.setattr(dtype_selection, "choose_dtype", measure)
    runs: list[int] = []
    run = Runner.run

    def counted(self: Runner, *arguments: Any) -> Any:
        runs.append(arguments[-1])
        return run(self, *arguments)

    monkeypatch.setattr(Runner, "run", counted)
    successor, learnt = started(known)
    assert successor.models[0].dtype_reason == runner.models[0].dtype_reason
    assert runs == [1, 1, 1]  # one image a task, to be warm
    (taken,) = (each for key, each in learnt.costs.items() if key.operation.task is Task.CLASSIFY)
    assert taken.fixed_seconds == pytest.approx(cost.fixed_seconds, abs=1e-6)
    assert taken.per_image_seconds == pytest.approx(cost.per_image_seconds)
    # What is known of a network that is not served now is handed on.
    absent = MeasuredCost("a form that no model has", Task.DETECT, (64, 64), 1.0, 2.0)
    between, idle = started(replace(known, costs=(*known.costs, absent)))
    assert absent in measured(between, idle).costs
    # Of another device nothing holds.
    monkeypatch.setattr(
        dtype_selection, "choose_dtype", lambda _: DtypeChoice(torch.float32, "measured anew")
    )
    elsewhere, _ = started(replace(known, device_name="another device"))
    assert elsewhere.models[0].dtype_reason == "auto: measured anew"
    assert runs[6:] == [1, 1, 4, 4, 1, 4, 1, 4]
