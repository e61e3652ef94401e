"""The start of an engine: its models are loaded, prepared, timed and shown; its measurements."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from model.config import Operation, Task
from model.pretrained.progress import log_lines
from model.pretrained.records import weights_folder
from model.remote.addresses import is_address
from model.remote.fetch import fetch
from service import metrics
from service.engine.batches import Fault, Input, WarmUp
from service.engine.descriptions import blaming, warm_up_sizes
from service.engine.device import EngineDevice
from service.engine.runner import Runner, failing_device
from service.engine.scheduling.queues import QueueKey
from service.engine.scheduling.scheduler import Scheduler
from service.engine.workers import Workers
from service.link.messages import BEST, ModelInfo
from service.processes.compile_cache import compile_folder
from service.processes.compile_lock import filled_once
from service.processes.handover import MeasuredCost, Measurements, write_measurements
from service.settings import ModelSpec, Settings

HAND_OVER_SECONDS = 5.0
"""Interval at which an engine writes down what it has measured."""


class ConfigurationError(Exception):
    """The settings cannot be met; a restart would not help."""


WARM_UP_RUNS = 2
PATIENCE_SECONDS = 1.0
"""A first warm-up run that takes longer on a CPU is not repeated: caches hardly matter then. A
classifier's is, since it also records the pass or reorders weights."""


def load(
    settings: Settings,
    specs: Sequence[ModelSpec],
    device: EngineDevice,
    batch_sizes: tuple[int, ...],
    scheduler: Scheduler[Any],
    known: Measurements | None = None,
    pins: Path | None = None,
) -> Runner:
    """Load all models and warm them up, on the device's thread.

    Args:
        settings: the service's.
        specs: the models.
        device: the names of the device.
        batch_sizes: that batches are padded to.
        scheduler: learns what batches cost, and which fit.
        known: what the engine before has measured; it is not measured again.
        pins: see ``service.engine.engine.Engine``.

    Raises:
        ConfigurationError: if the models cannot be loaded as the settings say.
        DeviceFailedError: if the device is lost meanwhile.
    """
    with filled_once(compile_folder(os.environ)), failing_device():
        try:
            pinned = [_pinned(spec, settings, pins) for spec in specs]
            runner = Runner(settings, pinned, device, batch_sizes, known)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        for model in runner.models:
            for operation in model.operations:
                _learn_costs(runner, model, operation, scheduler, known)
                scheduler.limit(operation, model.batch_sizes[-1])
    for model in runner.models:
        metrics.MODEL_INFO.labels(
            model.task, model.name, model.weights, model.device, model.dtype
        ).set(1)
        for fallback in model.fallbacks:
            metrics.GPU_FALLBACKS.labels(fallback.what).inc()
    metrics.start_at_zero(metrics.GPU_FALLBACKS, ("compile", "record", "kernels"))
    metrics.start_at_zero(metrics.OUT_OF_MEMORY, ("split", "refused"))
    for model in runner.models:
        tasks = [task for _, task in model.operations]
        metrics.start_at_zero(metrics.BATCH_FAULTS, [model.name], tasks, Fault)
        metrics.start_at_zero(metrics.NOT_FINITE, [model.name], tasks)
    return runner


def _pinned(spec: ModelSpec, settings: Settings, pins: Path | None) -> ModelSpec:
    """Fetch a model's weights if they have an address, and pin them to what was fetched."""
    if not is_address(spec.weights):
        return spec
    with blaming(spec.blame("weights")):
        # Log lines, even on a terminal: other processes write there too.
        folder = weights_folder(settings.cache_folder)
        fetched = fetch(spec.weights, folder, pins=pins, show=log_lines)
    return dataclasses.replace(spec, weights=fetched.source)


def _learn_costs(
    runner: Runner,
    model: ModelInfo,
    operation: Operation,
    scheduler: Scheduler[Any],
    known: Measurements | None,
) -> None:
    """Warm up an operation, and learn what its batches cost unless that is known."""
    costs = _known_costs(runner, operation, known)
    # Behind the model's own task, everything that another one shares with it is warm.
    once = bool(costs) or operation != model.operation
    sizes = warm_up_sizes(model, runner.device.type)
    if costs and runner.device.type == "cpu":
        sizes = sizes[:1]
    for step in warm_up(runner, model, operation, sizes, once=once):
        if not costs:
            key = QueueKey(step.operation, step.input_size)
            scheduler.learn(key, step.size, step.device_seconds)
    for cost in costs:
        # Two points determine the line.
        for size in (1, 1 + model.batch_sizes[-1]):
            seconds = cost.fixed_seconds + size * cost.per_image_seconds
            scheduler.learn(QueueKey(operation, cost.input_size), size, seconds)


def warm_up(
    runner: Runner,
    model: ModelInfo,
    operation: Operation,
    sizes: Sequence[int],
    *,
    once: bool = False,
) -> Iterator[WarmUp]:
    """Run batches of a model's usual inputs; yield the time of the last run of each.

    Args:
        runner: with the model.
        model: one of the runner's.
        operation: one of the model's.
        sizes: of the batches; ``warm_up_sizes`` returns those that are worth it.
        once: whether a first run is as good as a second.
    """
    is_alike = runner.device.type == "cpu" and operation.task is not Task.CLASSIFY
    # One class map is what most requests ask for.
    question: dict[str, Any] = {"class_ids": (BEST,)} if operation.task is Task.EXPLAIN else {}
    for input_size in runner.warm_up_input_sizes(model.input):
        image = Input(np.zeros((*input_size, 3), np.uint8), input_size, **question)
        for size in sizes:
            for _ in range(1 if once else WARM_UP_RUNS):
                result = runner.run(operation, [image] * size, input_size, size)
                if is_alike and result.device_seconds > PATIENCE_SECONDS:
                    break
            yield WarmUp(operation, input_size, size, result.network_seconds)


async def hand_over(path: Path, runner: Runner, scheduler: Scheduler[Any]) -> None:
    """Write down what was measured, again and again: a successor may be started at any time.

    Args:
        path: of the engine's file.
        runner: of the engine.
        scheduler: of the engine.
    """
    while True:
        write_measurements(path, measured(runner, scheduler))
        await asyncio.sleep(HAND_OVER_SECONDS)


def watch(runner: Runner, workers: Workers) -> None:
    """Count what the device does beside batches from now on, and tell the workers."""
    loop = asyncio.get_running_loop()

    def fell_back(what: str) -> None:
        metrics.GPU_FALLBACKS.labels(what).inc()
        loop.call_soon_threadsafe(lambda: workers.announce(runner.models))

    runner.on_compilation(metrics.RECOMPILES.inc)
    runner.on_fallback(fell_back)
    runner.on_rerecording(metrics.RERECORDINGS.inc)


def measured(runner: Runner, scheduler: Scheduler[Any]) -> Measurements:
    """Return what an engine has measured so far."""
    costs = tuple(
        MeasuredCost(
            runner.forms[key.operation.model],
            key.operation.task,
            key.input_size,
            cost.fixed_seconds,
            cost.per_image_seconds,
        )
        for key, cost in scheduler.costs.items()
        if cost.known
    )
    known = runner.measurements
    return replace(known, costs=(*costs, *known.costs))


def _known_costs(
    runner: Runner, operation: Operation, known: Measurements | None
) -> list[MeasuredCost]:
    """Return what the engine before has learnt of an operation's costs."""
    if known is None or known.device_name != runner.measurements.device_name:
        return []
    wanted = runner.forms[operation.model], operation.task
    return [cost for cost in known.costs if (cost.form, cost.task) == wanted]


def summary(model: ModelInfo) -> dict[str, object]:
    """Return what the supervisor shows of a model."""
    return {
        "task": model.task,
        "name": model.name,
        "weights": model.weights,
        "classes": len(model.labels),
        "device": f"{model.device} ({model.device_name})",
        "dtype": model.dtype,
        "compiled": model.compiled,
        "max_batch_size": model.batch_sizes[-1],
    }
