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
from service.api.errors import ServiceError
from service.api.queries import ClassifyQuery, DetectQuery
from service.api.schemas import Timing
from service.commands.predict.network import WaitingInput
from service.commands.predict.outcome import PredictAnswer, PredictRequest
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, ModelInfo
from service.settings import ModelSpec, Settings
from support.service_fakes import (
    BOXES,
    CLASSIFIER,
    DETECTION_LABELS,
    DETECTION_SCORES,
    DETECTOR,
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

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Return the means of four parts of each image."""
        found: list[InferenceResult | ServiceError] = []
        for waiting in batch:
            pixels = waiting.network_input.pixels
            parts = np.array_split(pixels.astype(np.float32) / 255, 4)
            logits = np.array([part.mean() for part in parts], np.float32)
            found.append(InferenceResult((logits,), 0.0, 0.0, len(batch)))
        return found

    def answer(
        self,
        prepared: PreparedImage,
        result: InferenceResult,
        decode: Callable[[], Image.Image],
    ) -> PredictAnswer:
        """Return the service's document."""
        shown = EngineResult(self.model, prepared, result, TIMING, decode, threading.Event())
        match self._query:
            case ClassifyQuery() as query:
                return PredictAnswer(classify_document(shown, query), None)
            case DetectQuery() as query:
                return PredictAnswer(detect_document(shown, query), None)
        raise AssertionError(self._query)


class DetectingNetwork(MeanNetwork):
    """A detector that finds the same in every image."""

    offered = DETECTOR

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Return three detections for each image."""
        masks = np.ones((len(BOXES), 28, 28), np.float32)
        arrays = (BOXES, DETECTION_SCORES, DETECTION_LABELS, masks)
        return [InferenceResult(arrays, 0.0, 0.0, len(batch)) for _ in batch]


class SlowDetectingNetwork(DetectingNetwork):
    """A detector that is much slower than the decoding of its images."""

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Wait, and return three detections for each image."""
        time.sleep(0.1)
        return super().run(batch)


class SlowNetwork(MeanNetwork):
    """A classifier that takes a while for each batch."""

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Wait, and return the means."""
        time.sleep(0.25)
        return super().run(batch)


class NotingNetwork(MeanNetwork):
    """A classifier that leaves a file for each of its processes, named by the GPU that it sees."""

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        super().__init__(settings, spec, request, batch_size)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        Path(f"{settings.devices} is {visible} in {os.getpid()}").touch()


class DyingNetwork(MeanNetwork):
    """A network whose process is killed with its first batch, once: then a file says so."""

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Die, or return the means."""
        note = Path("died")
        if not note.exists():
            note.touch()
            os._exit(1)
        return super().run(batch)
