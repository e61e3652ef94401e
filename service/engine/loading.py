"""The start of an engine: its models are loaded, prepared, timed and shown."""

from __future__ import annotations

from typing import Any

from service import metrics
from service.engine.device import EngineDevice
from service.engine.faults import Fault
from service.engine.runner import Runner, failing_device
from service.engine.scheduling.queues import QueueKey
from service.engine.scheduling.scheduler import Scheduler
from service.link.messages import ModelInfo
from service.settings import Settings, specs_of


class ConfigurationError(Exception):
    """The settings cannot be met; a restart would not help."""


def load(
    settings: Settings,
    device: EngineDevice,
    batch_sizes: tuple[int, ...],
    scheduler: Scheduler[Any],
) -> Runner:
    """Load all models and warm them up, on the device's thread.

    Args:
        settings: the service's.
        device: the names of the device.
        batch_sizes: that batches are padded to.
        scheduler: learns what batches cost, and which fit.

    Raises:
        ConfigurationError: if the models cannot be loaded as the settings say.
        DeviceFailedError: if the device is lost meanwhile.
    """
    with failing_device():
        try:
            runner = Runner(settings, specs_of(settings), device, batch_sizes)
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
