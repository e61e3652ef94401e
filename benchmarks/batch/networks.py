"""Networks for measurements of offline work: of a known speed, and watched while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving.simulated_device import DeviceCost, image_scores
from service.answers.inference import EngineResult
from service.api.errors import ServiceError
from service.commands.batch.actors import MakeNetwork, local_network
from service.commands.predict.outcome import PredictAnswer, PredictRequest
from service.commands.predict.passes import WaitingInput
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, ModelInfo, Question
from service.settings import ModelSpec, Settings
from support.batch_networks import MeanNetwork

T_ON_A_CPU = DeviceCost(fixed_seconds=0.0, per_image_seconds=0.020)
"""OverLoCK-T on two cores, 8 images at 224x224: see ``docs/performance.md``."""

IMMEDIATE = DeviceCost(fixed_seconds=0.0, per_image_seconds=0.0)

COSTS = {"simulated T": T_ON_A_CPU, "simulated fast": IMMEDIATE}
"""Devices that only wait; the real one is ``real T``."""


class SimulatedNetwork(MeanNetwork):
    """A classifier that takes as long as a device of known cost, during which it waits.

    Args:
        cost: the device's.
        settings: of the precision.
        spec: of the name.
        request: the query for every image.
        batch_size: unused.
    """

    def __init__(
        self,
        cost: DeviceCost,
        settings: Settings,
        spec: ModelSpec,
        request: PredictRequest,
        batch_size: int,
    ) -> None:
        super().__init__(settings, spec, request, batch_size)
        self._cost = cost

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Return four scores of each image, after the device's time."""
        started = time.perf_counter()
        scores = [np.log(image_scores(each.network_input.pixels)[:4] + 1e-6) for each in batch]
        wait(started, self._cost, len(batch))
        return [InferenceResult((each,), 0.0, 0.0, len(batch)) for each in scores]


class WatchedNetwork:
    """A network that notes when each batch is done.

    Args:
        make: loads the network.
        times: a file: a line a batch, with the monotonic moment and the number of images.
        settings: of the network, as the other arguments.
    """

    def __init__(
        self,
        make: MakeNetwork,
        times: Path,
        settings: Settings,
        spec: ModelSpec,
        request: PredictRequest,
        batch_size: int,
    ) -> None:
        self._network = make(settings, spec, request, batch_size)
        self.model: ModelInfo = self._network.model
        self._times = times.open("a", buffering=1)

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Run a batch."""
        results = self._network.run(batch, asked)
        note(self._times, len(batch))
        return results

    def engine_result(
        self,
        prepared: PreparedImage,
        result: InferenceResult,
        decode: Callable[[], Image.Image],
    ) -> EngineResult:
        """Return a result as answers are made of it."""
        return self._network.engine_result(prepared, result, decode)

    def rendered(self, engine_result: EngineResult) -> PredictAnswer:
        """Make the service's answer."""
        return self._network.rendered(engine_result)


def network_of(device: str, times: Path) -> MakeNetwork:
    """Return what loads the watched network of a device."""
    cost = COSTS.get(device)
    make = local_network if cost is None else partial(SimulatedNetwork, cost)
    return partial(WatchedNetwork, make, times)


def wait(started: float, cost: DeviceCost, size: int) -> None:
    """Wait until the device's time for a batch is over."""
    left_seconds = started + cost.seconds(size) - time.perf_counter()
    if left_seconds > 0:
        time.sleep(left_seconds)


def note(times: object, images: int) -> None:
    """Note that a batch is done."""
    print(time.monotonic(), images, file=times)  # type: ignore[call-overload]
