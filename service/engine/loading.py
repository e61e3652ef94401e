"""The start of an engine: its models are loaded, prepared, timed and shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from model.pretrained.progress import log_lines
from model.pretrained.records import weights_folder
from model.remote.addresses import is_address
from model.remote.fetch import fetch
from service import metrics
from service.engine.device import EngineDevice
from service.engine.faults import Fault, blaming
from service.engine.runner import Runner, failing_device
from service.engine.scheduling.queues import QueueKey
from service.engine.scheduling.scheduler import Scheduler
from service.link.messages import ModelInfo
from service.settings import ModelSpec, Settings, specs_of


class ConfigurationError(Exception):
    """The settings cannot be met; a restart would not help."""


def load(
    settings: Settings,
    device: EngineDevice,
    batch_sizes: tuple[int, ...],
    scheduler: Scheduler[Any],
    pins: Path | None = None,
) -> Runner:
    """Load all models and warm them up, on the device's thread.

    Args:
        settings: the service's.
        device: the names of the device.
        batch_sizes: that batches are padded to.
        scheduler: learns what batches cost, and which fit.
        pins: see ``service.engine.engine.Engine``.

    Raises:
        ConfigurationError: if the models cannot be loaded as the settings say.
        DeviceFailedError: if the device is lost meanwhile.
    """
    with failing_device():
        try:
            specs = [_pinned(spec, settings, pins) for spec in specs_of(settings)]
            runner = Runner(settings, specs, device, batch_sizes)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        for step in runner.warm_up():
            key = QueueKey(step.task, step.input_size)
            scheduler.learn(key, step.size, step.device_seconds)
    for model in runner.models:
        scheduler.limit(model.task, model.batch_sizes[-1])
        metrics.MODEL_INFO.labels(
            model.task, model.name, model.weights, model.device, model.dtype
        ).set(1)
        for fallback in model.fallbacks:
            metrics.GPU_FALLBACKS.labels(fallback.what).inc()
    tasks = [model.task for model in runner.models]
    metrics.start_at_zero(metrics.GPU_FALLBACKS, ("compile", "record", "kernels"))
    metrics.start_at_zero(metrics.OUT_OF_MEMORY, ("split", "refused"))
    metrics.start_at_zero(metrics.BATCH_FAULTS, tasks, Fault)
    metrics.start_at_zero(metrics.NOT_FINITE, tasks)
    return runner


def _pinned(spec: ModelSpec, settings: Settings, pins: Path | None) -> ModelSpec:
    """Fetch a model's weights if they have an address, and pin them to what was fetched."""
    if not is_address(spec.weights):
        return spec
    with blaming(spec.blame("weights")):
        # Log lines, even on a terminal: other processes write there too.
        folder = weights_folder(settings.cache_folder)
        fetched = fetch(spec.weights, folder, pins=pins, show=log_lines)
    return replace(spec, weights=fetched.source)


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
