"""Forward passes of a network in this process; several over an image in tiles make one answer.

It does without torch, as those who only name a network do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from PIL import Image

from service.answers.inference import EngineResult
from service.answers.tiles import merged, question_of_passes
from service.api.errors import ServiceError
from service.api.queries import DetectQuery, SegmentQuery
from service.commands.predict.outcome import PredictAnswer
from service.images.preparation import PreparedImage, TiledImage
from service.link.messages import InferenceResult, ModelInfo, NetworkInput, Question


@dataclass(frozen=True)
class WaitingInput:
    """An image, or a tile of one, that waits for the network.

    Attributes:
        network_input: the network's input.
        ready_at: moment since which it waits, ``time.perf_counter``.
    """

    network_input: NetworkInput
    ready_at: float


class Network(Protocol):
    """What has a model and runs batches: ``LocalNetwork``, or a stand-in for it."""

    model: ModelInfo

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Run a batch of one size; the request's own question without another one."""

    def engine_result(
        self,
        prepared: PreparedImage,
        result: InferenceResult,
        decode: Callable[[], Image.Image],
    ) -> EngineResult:
        """Return a result as the service's answers are made of it. Thread-safe."""

    def rendered(self, engine_result: EngineResult) -> PredictAnswer:
        """Make the service's answer. Thread-safe."""


def run_passes(
    network: Network, passes: Sequence[WaitingInput], batch_size: int
) -> list[InferenceResult] | ServiceError:
    """Run the passes over one image, in batches of one size each.

    Args:
        network: runs them.
        passes: the whole image, then the tiles.
        batch_size: most of one size in a forward pass.

    Returns:
        Their results, in order, or the first error, which is the image's.

    Raises:
        DeviceFailedError: if the device fails for good.
    """
    question = question_of_passes(network.model, len(passes))
    results: list[InferenceResult] = []
    for _, group in groupby(passes, key=lambda each: each.network_input.size):
        of_size = list(group)
        for start in range(0, len(of_size), batch_size):
            for result in network.run(of_size[start : start + batch_size], question):
                if isinstance(result, ServiceError):
                    return result
                results.append(result)
    return results


def answer_of_passes(
    network: Network,
    image: TiledImage,
    results: Sequence[InferenceResult],
    query: SegmentQuery | DetectQuery,
    decode: Callable[[], Image.Image],
) -> PredictAnswer:
    """Make one answer of the passes over an image.

    Args:
        network: that ran them.
        image: in tiles.
        results: of its passes, as ``run_passes`` returned them.
        query: of the answer.
        decode: decodes the image again, to draw over.
    """
    of_passes = [
        network.engine_result(prepared, result, decode)
        for prepared, result in zip(image.passes, results, strict=True)
    ]
    return network.rendered(merged(of_passes, image.grid, query))
