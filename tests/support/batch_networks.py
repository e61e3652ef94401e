"""Networks without weights for ``overlock batch``: quick, slow, and ending with their process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from PIL import Image

from service.answers.classify import classify_document
from service.answers.detect import detect_document
from service.answers.inference import EngineResult
from service.answers.segment import segment_document
from service.api.errors import ServiceError
from service.api.queries import ClassifyQuery, DetectQuery, SegmentQuery
from service.api.schemas import Timing
from service.commands.predict.outcome import PredictAnswer, PredictRequest
from service.commands.predict.passes import WaitingInput
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, InputInfo, ModelInfo, Question
from service.settings import ModelSpec, Settings
from support.service_fakes import (
    BOXES,
    CLASSIFIER,
    DETECTION_LABELS,
    DETECTION_SCORES,
    DETECTOR,
    SEGMENTER,
    SOURCES,
)

TIMING = Timing(
    decode_seconds=0, queue_seconds=0, inference_seconds=0, render_seconds=0, batch_size=1
)


class MeanNetwork:
    """A classifier whose logits are means of the pixels: quick, and each image has its own.

    Args:
        settings: of the precision.
        spec: of the name.
        request: the query for every image.
        batch_size: unused.
    """

    offered = CLASSIFIER

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        dtype = "float32" if settings.dtype == "auto" else settings.dtype
        self.model: ModelInfo = replace(self.offered, name=spec.name, dtype=dtype)
        self._query = request.query

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Return the means of four parts of each image."""
        found: list[InferenceResult | ServiceError] = []
        for waiting in batch:
            pixels = waiting.network_input.pixels
            parts = np.array_split(pixels.astype(np.float32) / 255, 4)
            logits = np.array([part.mean() for part in parts], np.float32)
            found.append(InferenceResult((logits,), 0.0, 0.0, len(batch)))
        return found

    def engine_result(
        self,
        prepared: PreparedImage,
        result: InferenceResult,
        decode: Callable[[], Image.Image],
    ) -> EngineResult:
        """Return a result with all that an answer is made of."""
        return EngineResult(self.model, prepared, result, TIMING, decode, threading.Event())

    def rendered(self, engine_result: EngineResult) -> PredictAnswer:
        """Return the service's document."""
        match self._query:
            case ClassifyQuery() as query:
                return PredictAnswer(classify_document(engine_result, query), None)
            case DetectQuery() as query:
                return PredictAnswer(detect_document(engine_result, query), None)
            case SegmentQuery() as query:
                return PredictAnswer(segment_document(engine_result, query), None)
        raise AssertionError(self._query)


class DetectingNetwork(MeanNetwork):
    """A detector that finds the same in every image."""

    offered = DETECTOR

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Return three detections for each image."""
        masks = np.ones((len(BOXES), 28, 28), np.float32)
        arrays = (BOXES, DETECTION_SCORES, DETECTION_LABELS, masks)
        return [InferenceResult(arrays, 0.0, 0.0, len(batch)) for _ in batch]


class RaggedDetectingNetwork(DetectingNetwork):
    """A detector whose masks have holes and parts, others in each image; the last one is empty."""

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Return four detections for each image."""
        found: list[InferenceResult | ServiceError] = []
        for waiting in batch:
            chance = np.random.default_rng(int(waiting.network_input.pixels.sum()))
            height, width = waiting.network_input.original_size
            low, high = chance.uniform(0, 0.4, (4, 2)), chance.uniform(0.6, 1, (4, 2))
            boxes = np.concatenate((low, high), axis=1) * np.array([width, height] * 2)
            masks = chance.random((4, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
            masks[-1] = 0
            scores, labels = np.array([0.9, 0.7, 0.5, 0.3]), np.array([2, 0, 3, 1])
            arrays = (
                boxes.astype(np.float32),
                scores.astype(np.float32),
                labels,
                masks.astype(np.float32),
            )
            found.append(InferenceResult(arrays, 0.0, 0.0, len(batch)))
        return found


class BrightnessNetwork(MeanNetwork):
    """A segmenter whose classes are ranges of brightness, ragged and with holes."""

    offered = SEGMENTER

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Return a label map of each image."""
        found: list[InferenceResult | ServiceError] = []
        for waiting in batch:
            height, width = waiting.network_input.original_size
            pixels = waiting.network_input.pixels.mean(axis=-1)
            rows = np.arange(height) * len(pixels) // height
            columns = np.arange(width) * pixels.shape[1] // width
            label_map = (pixels[rows[:, None], columns] // 86).astype(np.uint8)
            found.append(InferenceResult((label_map,), 0.0, 0.0, len(batch)))
        return found


class SlowDetectingNetwork(DetectingNetwork):
    """A detector that is much slower than the decoding of its images."""

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Wait, and return three detections for each image."""
        time.sleep(0.1)
        return super().run(batch, asked)


class SlowSmallDetectingNetwork(SlowDetectingNetwork):
    """The same with small inputs, of which many make an image in tiles."""

    offered = replace(
        DETECTOR, input=InputInfo(short_side=200, long_side=333, multiple=32, sources=SOURCES)
    )


class SlowNetwork(MeanNetwork):
    """A classifier that takes a while for each batch."""

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Wait, and return the means."""
        time.sleep(0.25)
        return super().run(batch, asked)


class NotingNetwork(MeanNetwork):
    """A classifier that leaves a file for each of its processes, named by the GPU that it sees."""

    processes = 1

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        super().__init__(settings, spec, request, batch_size)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        Path(f"{settings.devices} is {visible} in {os.getpid()}").touch()

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Wait for all networks, beside the one that was described; return the means."""
        until = time.monotonic() + 60
        files = 1 + self.processes
        while len([*Path().glob("* is * in *")]) < files and time.monotonic() < until:
            time.sleep(0.05)
        return super().run(batch, asked)


class NotingPair(NotingNetwork):
    """Two of them: one alone may have done all before the other one is there."""

    processes = 2


class DyingNetwork(MeanNetwork):
    """A network whose process is killed with its first batch, once: then a file says so."""

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Die, or return the means."""
        note = Path("died")
        if not note.exists():
            note.touch()
            os._exit(1)
        return super().run(batch, asked)
