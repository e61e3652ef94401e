"""The service's engine process with the simulated device instead of the runner.

Link, scheduler, engine and process are the real ones; only the runner, which runs a batch, differs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.serving.ours.cost_variable import COST_VARIABLE
from benchmarks.serving.simulated_device import DeviceCost, run_batch
from model.config import CLASSIFIERS, Operation, Task
from model.images.input_config import input_config
from model.labels.tables import imagenet_labels
from service.engine import loading, process
from service.engine.batches import BatchResult, Input
from service.engine.descriptions import input_of
from service.engine.device import EngineDevice
from service.engine.runner import Runner
from service.link.messages import ModelInfo
from service.processes.handover import Measurements
from service.settings import ModelSpec, Settings


class SimulatedRunner(Runner):
    """Classifies by ``run_batch``."""

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[ModelSpec],
        device: EngineDevice | str,
        batch_sizes: tuple[int, ...],
        known: Measurements | None = None,
    ) -> None:
        self.device, self.host_device = torch.device("cpu"), "cpu"
        self._predictors, self.forms = {}, {}
        self._batch_sizes = batch_sizes
        self._cost = DeviceCost(*map(float, os.environ[COST_VARIABLE].split(",")))
        (spec,) = specs
        name = spec.architecture or ""
        self.forms[spec.name] = name
        config = input_config(CLASSIFIERS[name].geometry)
        self.models = (
            ModelInfo(
                name=spec.name,
                task=Task.CLASSIFY,
                architecture=name,
                weights="random",
                weights_sha256=None,
                weights_kind="raw",
                activation="softmax",
                labels=imagenet_labels(),
                colors=(),
                input=input_of(config, Task.CLASSIFY, square=False),
                device="cpu",
                device_name="simulated",
                dtype="uint8",
                dtype_reason="simulated",
                kernels="none",
                compiled=False,
                compiled_reason="simulated",
                batch_sizes=batch_sizes,
            ),
        )

    @property
    def measurements(self) -> Measurements:
        """Nothing is measured."""
        return Measurements()

    def run(
        self,
        operation: Operation,
        inputs: Sequence[Input],
        input_size: tuple[int, int],
        size: int,
    ) -> BatchResult:
        """Run one batch; padding costs what an image costs."""
        started = time.perf_counter()
        images = [each.image for each in inputs if isinstance(each.image, np.ndarray)]
        scores = run_batch(images, self._cost, places=size)
        seconds = time.perf_counter() - started
        return BatchResult(tuple((row,) for row in scores), seconds, seconds)


def main() -> None:
    """Run an engine with the supervisor's arguments."""
    loading.Runner = SimulatedRunner  # type: ignore[attr-defined]
    process.main()


if __name__ == "__main__":
    main()
