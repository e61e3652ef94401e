"""Prediction in this process: the service's decoding, runner and answers, without its queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from model.config import Operation, Task
from model.images.prefetch import prefetch
from service.answers.classify import check_query, classify_document
from service.answers.detect import detect_document, detect_picture
from service.answers.embed import embed_document, layer_of
from service.answers.explain import class_ids_of, explain_document, explain_picture
from service.answers.inference import EngineResult
from service.answers.segment import segment_document, segment_picture
from service.answers.tiles import merged, question_of_passes
from service.api.errors import DeviceMemoryError, InferenceError, ServiceError
from service.api.queries import (
    ClassifyQuery,
    DetectQuery,
    EmbedQuery,
    ExplainQuery,
    SegmentQuery,
)
from service.api.schemas import NOTES, Timing
from service.commands.predict.outcome import (
    Document,
    Failure,
    Outcome,
    PredictAnswer,
    PredictRequest,
    Query,
    unreadable,
)
from service.commands.predict.sources import Source, SourceError
from service.engine.batches import DeviceFailedError, Fault, Input
from service.engine.runner import Runner, failing_device
from service.images.preparation import ImagePreparer, PreparedImage, TiledImage
from service.link.messages import InferenceResult, ModelInfo, Question
from service.settings import ModelSpec, Settings


@dataclass(frozen=True)
class _Ready:
    """A decoded image that waits for the network.

    Attributes:
        source: its source.
        body: the file; the pixels to draw over are decoded from it once more.
        prepared: the network's input.
        ready_at: moment since which it waits, ``time.perf_counter``.
    """

    source: Source
    body: bytes
    prepared: PreparedImage
    ready_at: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, which a batch shares."""
        return self.prepared.network_input.size


@dataclass(frozen=True)
class _Tiled:
    """A decoded large image, whose passes wait for the network."""

    source: Source
    body: bytes
    image: TiledImage
    ready_at: float

    @property
    def passes(self) -> list[_Ready]:
        """Its passes, as images of their own."""
        return [_Ready(self.source, self.body, each, self.ready_at) for each in self.image.passes]


class LocalPredictor:
    """A network in this process.

    Args:
        settings: of the device and the images.
        spec: the model.
        request: the query for every image.
        batch_size: most images of one shape that share a forward pass.

    Raises:
        ValueError: if the device is missing, or the weights cannot be read or do not fit.
        InvalidParameterError: if the model cannot do what the query asks for.
        DeviceFailedError: if the device does not work.
    """

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        self._request = request
        self._batch_size = batch_size
        self._preparer = ImagePreparer(settings)
        with failing_device():
            self._runner = Runner(settings, (spec,), settings.devices.split(",")[0], (batch_size,))
        (self._model,) = self._runner.models
        self._question = _question_of(request.query, self._model)
        self._tiled = _tiled_query(request.query)

    @property
    def note(self) -> str | None:
        """Caveat about the answers, if there is one."""
        return NOTES.get(self._model.weights)

    def outcomes(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        """Predict on every image, in order; the following ones are decoded meanwhile.

        Raises:
            DeviceFailedError: if the device fails for good.
        """
        waiting: list[_Ready | Outcome] = []
        # The passes over one image in tiles fill batches.
        ahead = 2 * self._batch_size if self._tiled is None else 1
        for item in prefetch(self._read, sources, ahead=ahead):
            if isinstance(item, _Tiled):
                yield Outcome(item.source, self._predict_tiled(item))
                continue
            if isinstance(item, _Ready) and any(size != item.size for size in _sizes(waiting)):
                yield from self._finish(waiting)
                waiting = []
            waiting.append(item)
            # A failed image is reported at once unless others wait to be reported before it.
            if len(_sizes(waiting)) in {0, self._batch_size}:
                yield from self._finish(waiting)
                waiting = []
        yield from self._finish(waiting)

    def _read(self, source: Source) -> _Ready | _Tiled | Outcome:
        """Read and decode, in a thread."""
        try:
            body = source.read()
            if self._tiled is not None:
                image = self._preparer.prepare_tiles(body, None, self._tiled, self._model)
                return _Tiled(source, body, image, time.perf_counter())
            prepared = self._preparer.prepare(body, None, self._model)
        except (ServiceError, SourceError, OSError) as error:
            return Outcome(source, _failure_of(error))
        return _Ready(source, body, prepared, time.perf_counter())

    def _finish(self, waiting: Sequence[_Ready | Outcome]) -> Iterator[Outcome]:
        """Run the batch and yield its outcomes and those of failed images, in order."""
        batch = [item for item in waiting if isinstance(item, _Ready)]
        results = iter(self._run(batch, self._question) if batch else [])
        for item in waiting:
            if isinstance(item, Outcome):
                yield item
                continue
            result = next(results)
            if isinstance(result, ServiceError):
                yield Outcome(item.source, _failure_of(result))
            else:
                yield Outcome(item.source, self._answer(self._engine_result(item, result)))

    def _predict_tiled(self, tiled: _Tiled) -> PredictAnswer | Failure:
        """Run the passes over an image in batches, and answer from all of them."""
        passes = tiled.passes
        question = question_of_passes(self._model, len(passes))
        results: list[EngineResult] = []
        for _, group in groupby(passes, key=lambda each: each.size):
            of_size = list(group)
            for start in range(0, len(of_size), self._batch_size):
                batch = of_size[start : start + self._batch_size]
                for item, result in zip(batch, self._run(batch, question), strict=True):
                    if isinstance(result, ServiceError):
                        return _failure_of(result)
                    results.append(self._engine_result(item, result))
        assert self._tiled is not None
        return self._answer(merged(results, tiled.image.grid, self._tiled))

    def _run(
        self, batch: Sequence[_Ready], asked: Question
    ) -> list[InferenceResult | ServiceError]:
        """Run a batch; one that fails is halved, so that a bad image fails alone."""
        prepared = [item.prepared.network_input for item in batch]
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
        operation = Operation(self._model.name, asked.task)
        started = time.perf_counter()
        try:
            with failing_device():
                outcome = self._runner.run(operation, inputs, batch[0].size, len(batch))
        except (RuntimeError, MemoryError) as error:
            fault = self._runner.fault_of(error)
            if fault is Fault.DEVICE_LOST:
                raise DeviceFailedError(f"The device is lost: {error}") from error
            if len(batch) > 1:
                half = len(batch) // 2
                return self._run(batch[:half], asked) + self._run(batch[half:], asked)
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

    def _engine_result(self, item: _Ready, result: InferenceResult) -> EngineResult:
        return EngineResult(
            self._model,
            item.prepared,
            result,
            Timing(
                decode_seconds=item.prepared.decode_seconds,
                queue_seconds=result.queue_seconds,
                inference_seconds=result.inference_seconds,
                render_seconds=0.0,
                batch_size=result.batch_size,
            ),
            decode=lambda: self._preparer.decode(item.body, None).image,
            cancelled=threading.Event(),
        )

    def _answer(self, engine_result: EngineResult) -> PredictAnswer:
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


def _tiled_query(query: Query) -> SegmentQuery | DetectQuery | None:
    if isinstance(query, SegmentQuery | DetectQuery) and query.tile is not None:
        return query
    return None


def _question_of(query: Query, model: ModelInfo) -> Question:
    match query:
        case ClassifyQuery():
            check_query(query, model)
        case EmbedQuery():
            return Question(Task.EMBED, layer=layer_of(query, model))
        case ExplainQuery():
            return Question(Task.EXPLAIN, class_ids=class_ids_of(query, model))
    return Question(model.task)


def _sizes(waiting: Sequence[_Ready | Outcome]) -> list[tuple[int, int]]:
    return [item.size for item in waiting if isinstance(item, _Ready)]


def _failure_of(error: ServiceError | SourceError | OSError) -> Failure:
    """Return the reason why there is no answer."""
    if isinstance(error, ServiceError):
        return Failure(error.slug, error.detail)
    return unreadable(error)
