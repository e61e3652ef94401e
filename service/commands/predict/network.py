"""A network in this process, for ``predict`` and ``batch``: batches in, answers out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from PIL import Image

from model.config import Operation, Task
from service.answers.classify import check_query, classify_document
from service.answers.detect import detect_document, detect_picture
from service.answers.embed import embed_document, layer_of
from service.answers.explain import class_ids_of, explain_document, explain_picture
from service.answers.inference import EngineResult
from service.answers.segment import segment_document, segment_picture
from service.api.errors import DeviceMemoryError, InferenceError, ServiceError
from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
from service.api.schemas import Timing
from service.commands.predict.outcome import Document, PredictAnswer, PredictRequest, Query
from service.commands.predict.passes import WaitingInput
from service.engine.batches import DeviceFailedError, Fault, Input
from service.engine.runner import Runner, failing_device
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, ModelInfo, Question
from service.settings import ModelSpec, Settings


class LocalNetwork:
    """A network in this process. Not thread-safe, but for what makes answers of results.

    Args:
        settings: of the device.
        spec: the model.
        request: the query for every image.
        batch_size: most images of one shape that share a forward pass.

    Attributes:
        model: as the service's callers see it.

    Raises:
        ValueError: if the device is missing, or the weights cannot be read or do not fit.
        InvalidParameterError: if the model cannot do what the query asks for.
        DeviceFailedError: if the device does not work.
    """

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        self._request = request
        with failing_device():
            self._runner = Runner(settings, (spec,), settings.devices.split(",")[0], (batch_size,))
        (self.model,) = self._runner.models
        self._question = _question_of(request.query, self.model)

    def run(
        self, batch: Sequence[WaitingInput], asked: Question | None = None
    ) -> list[InferenceResult | ServiceError]:
        """Run a batch; one that fails is halved, so that a bad image fails alone.

        Args:
            batch: at least one image, all of one size.
            asked: of each; the request's own question without.

        Raises:
            DeviceFailedError: if the device fails for good.
        """
        prepared = [item.network_input for item in batch]
        asked = asked or self._question
        inputs = [
            Input(
                self._runner.stage(p.pixels),
                p.original_size,
                asked.layer,
                asked.class_ids,
                asked.logits,
            )
            for p in prepared
        ]
        operation = Operation(self.model.name, asked.task)
        started = time.perf_counter()
        try:
            with failing_device():
                outcome = self._runner.run(operation, inputs, prepared[0].size, len(batch))
        except (RuntimeError, MemoryError) as error:
            fault = self._runner.fault_of(error)
            if fault is Fault.DEVICE_LOST:
                raise DeviceFailedError(f"The device is lost: {error}") from error
            if len(batch) > 1:
                half = len(batch) // 2
                return self.run(batch[:half], asked) + self.run(batch[half:], asked)
            if fault is Fault.OUT_OF_MEMORY:
                return [DeviceMemoryError()]
            return [InferenceError(f"The network failed: {error}")]
        return [
            InferenceError("The network's output for this image is not usable.")
            if arrays is None
            else InferenceResult(
                arrays, started - item.ready_at, outcome.device_seconds, len(batch)
            )
            for item, arrays in zip(batch, outcome.arrays, strict=True)
        ]

    def engine_result(
        self,
        prepared: PreparedImage,
        result: InferenceResult,
        decode: Callable[[], Image.Image],
    ) -> EngineResult:
        """Return a result as the service's answers are made of it.

        Args:
            prepared: the image.
            result: of the image, as ``run`` returned it.
            decode: decodes the image again, to draw over.
        """
        return EngineResult(
            self.model,
            prepared,
            result,
            Timing(
                decode_seconds=prepared.decode_seconds,
                queue_seconds=result.queue_seconds,
                inference_seconds=result.inference_seconds,
                render_seconds=0.0,
                batch_size=result.batch_size,
            ),
            decode=decode,
            cancelled=threading.Event(),
        )

    def rendered(self, engine_result: EngineResult) -> PredictAnswer:
        """Make the service's answer, and draw the picture if one is saved."""
        document: Document
        picture, saves = None, self._request.saves
        match self._request.query:
            case ClassifyQuery() as query:
                document = classify_document(engine_result, query)
            case SegmentQuery() as query:
                document = segment_document(engine_result, query)
                picture = segment_picture(engine_result, query) if saves else None
            case DetectQuery() as query:
                document = detect_document(engine_result, query)
                picture = detect_picture(engine_result, query) if saves else None
            case EmbedQuery() as query:
                document = embed_document(engine_result, query)
            case ExplainQuery() as query:
                document = explain_document(engine_result)
                picture = explain_picture(engine_result, query) if saves else None
        return PredictAnswer(document, picture)


def _question_of(query: Query, model: ModelInfo) -> Question:
    match query:
        case ClassifyQuery():
            check_query(query, model)
        case EmbedQuery():
            return Question(Task.EMBED, layer=layer_of(query, model))
        case ExplainQuery():
            return Question(Task.EXPLAIN, class_ids=class_ids_of(query, model))
    return Question(model.task)
