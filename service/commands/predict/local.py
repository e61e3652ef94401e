"""Prediction in this process: the service's decoding, runner and answers, without its queue."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from model.images.prefetch import prefetch
from service.api.errors import ServiceError
from service.api.schemas import NOTES
from service.commands.predict.network import LocalNetwork
from service.commands.predict.outcome import (
    Failure,
    Outcome,
    PredictAnswer,
    PredictRequest,
    failure_of,
)
from service.commands.predict.passes import WaitingInput, answer_of_passes, run_passes
from service.commands.predict.sources import Source, SourceError
from service.images.preparation import ImagePreparer, PreparedImage, TiledImage
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

    @property
    def waiting(self) -> WaitingInput:
        """What the network takes."""
        return WaitingInput(self.prepared.network_input, self.ready_at)


@dataclass(frozen=True)
class _Tiled:
    """A decoded large image, whose passes wait for the network."""

    source: Source
    body: bytes
    image: TiledImage
    ready_at: float

    @property
    def waiting(self) -> list[WaitingInput]:
        """What the network takes, pass by pass."""
        return [WaitingInput(each.network_input, self.ready_at) for each in self.image.passes]


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
        self._batch_size = batch_size
        self._preparer = ImagePreparer(settings)
        self._network = LocalNetwork(settings, spec, request, batch_size)
        self._tiled = request.tiled

    @property
    def note(self) -> str | None:
        """Caveat about the answers, if there is one."""
        return NOTES.get(self._network.model.weights)

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
                image = self._preparer.prepare_tiles(body, None, self._tiled, self._network.model)
                return _Tiled(source, body, image, time.perf_counter())
            prepared = self._preparer.prepare(body, None, self._network.model)
        except (ServiceError, SourceError, OSError) as error:
            return Outcome(source, failure_of(error))
        return _Ready(source, body, prepared, time.perf_counter())

    def _finish(self, waiting: Sequence[_Ready | Outcome]) -> Iterator[Outcome]:
        """Run the batch and yield its outcomes and those of failed images, in order."""
        batch = [item.waiting for item in waiting if isinstance(item, _Ready)]
        results = iter(self._network.run(batch) if batch else [])
        for item in waiting:
            if isinstance(item, Outcome):
                yield item
                continue
            result = next(results)
            if isinstance(result, ServiceError):
                yield Outcome(item.source, failure_of(result))
                continue
            decode = partial(self._decode, item.body)
            engine_result = self._network.engine_result(item.prepared, result, decode)
            yield Outcome(item.source, self._network.rendered(engine_result))

    def _predict_tiled(self, tiled: _Tiled) -> PredictAnswer | Failure:
        """Run the passes over an image in batches, and answer from all of them."""
        results = run_passes(self._network, tiled.waiting, self._batch_size)
        if isinstance(results, ServiceError):
            return failure_of(results)
        assert self._tiled is not None
        decode = partial(self._decode, tiled.body)
        return answer_of_passes(self._network, tiled.image, results, self._tiled, decode)

    def _decode(self, body: bytes) -> Image.Image:
        return self._preparer.decode(body, None).image


def _sizes(waiting: Sequence[_Ready | Outcome]) -> list[tuple[int, int]]:
    return [item.size for item in waiting if isinstance(item, _Ready)]
