"""The two classes that Ray Data runs: one decodes images on CPUs, the other has a device.

Neither imports torch with this file: the driver, which names them, does without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import pyarrow as pa
from PIL import Image

from service.api.errors import ServiceError
from service.commands.batch.decoded import DecodedChunk, inputs_of
from service.commands.batch.items import unpacked
from service.commands.batch.reading import ItemReader
from service.commands.batch.rows import Row, failed_row, row_of, schema_of, table_of
from service.commands.predict.outcome import Failure, PredictRequest, failure_of
from service.commands.predict.passes import Network, WaitingInput, answer_of_passes, run_passes
from service.images.preparation import ImagePreparer, PreparedImage, TiledImage, grid_of
from service.link.messages import InferenceResult, ModelInfo
from service.settings import ModelSpec, Settings

THREADS = "OMP_NUM_THREADS"
"""Threads of torch, as its libraries read it when they are loaded."""


MakeNetwork = Callable[[Settings, ModelSpec, PredictRequest, int], Network]


def local_network(
    settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
) -> Network:
    """Load the network; imports torch."""
    from service.commands.predict.network import LocalNetwork

    return LocalNetwork(settings, spec, request, batch_size)


@dataclass(frozen=True)
class BatchWork:
    """What both classes are made with.

    Attributes:
        settings: of the device and the images.
        spec: the model.
        request: the query for every image.
        batch_size: most images of one shape in a forward pass.
        folder: that relative paths start from; None on a cluster, whose machines have others.
        threads: OMP_NUM_THREADS of the network's process; None leaves their number to torch.
        make_network: loads the network.
    """

    settings: Settings
    spec: ModelSpec
    request: PredictRequest
    batch_size: int
    folder: str | None = None
    threads: str | None = None
    make_network: MakeNetwork = local_network

    def network(self) -> Network:
        """Load the network in this process."""
        if self.folder is not None:
            os.chdir(self.folder)
        # Ray limits a worker to the processors that it counts; they are all the network's.
        os.environ.pop(THREADS, None)
        if self.threads is not None:
            os.environ[THREADS] = self.threads
        return self.make_network(self.settings, self.spec, self.request, self.batch_size)


def describe(work: BatchWork) -> ModelInfo | str:
    """Load the network in a process of its own, and return its model, or why there is none."""
    from service.engine.batches import DeviceFailedError

    try:
        return work.network().model
    except (ValueError, OSError, ServiceError, DeviceFailedError) as error:
        return str(error)


class Decoder:
    """Reads and decodes the images of a chunk.

    Args:
        work: what is done to them.
        model: that they are decoded for.
    """

    def __init__(self, work: BatchWork, model: ModelInfo) -> None:
        if work.folder is not None:
            os.chdir(work.folder)
        cv2.setNumThreads(1)
        self._model, self._tiled = model, work.request.tiled
        self._preparer = ImagePreparer(work.settings)
        self._reader = ItemReader()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Decode a chunk.

        Args:
            block: one row: the items, packed, in a column ``items``.

        Returns:
            What a ``DecodedChunk`` returns. An image in tiles has as many inputs as passes, the
            whole image first.
        """
        (chunk,) = block.column("items").to_pylist()
        items = unpacked(chunk)
        decoded = DecodedChunk(len(items))
        for item, body in zip(items, self._reader.bodies(items), strict=True):
            try:
                inputs = [] if isinstance(body, Failure) else self._prepared(body)
            except ServiceError as error:
                body, inputs = failure_of(error), []
            if isinstance(body, Failure):
                decoded.add_failure(item.path, body)
            for prepared in inputs:
                decoded.add(item.path, prepared)
        return decoded.table()

    def _prepared(self, body: bytes) -> Sequence[PreparedImage]:
        if self._tiled is None:
            return (self._preparer.prepare(body, None, self._model),)
        return self._preparer.prepare_tiles(body, None, self._tiled, self._model).passes


class Predictor:
    """Has a network, and predicts on the images of a chunk. Thread-safe.

    The device has a thread of its own. While it computes, others make answers of what it has
    computed before. (OpenMP gives each thread that computes its own team of threads, and with more
    teams than cores none of them waits efficiently.)

    Args:
        work: what is done to the images.
    """

    def __init__(self, work: BatchWork) -> None:
        self._batch_size, self._tiled = work.batch_size, work.request.tiled
        self._device = ThreadPoolExecutor(1, "device")
        self._network = self._device.submit(work.network).result()
        self._schema = result_schema(work.request, self._network.model)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Predict on a chunk.

        Args:
            block: as a decoder returns it, whole, so that the batches are the same in every run.

        Returns:
            A row an image, in order, as it is written.
        """
        decoded = list(inputs_of(block))
        prepared = {
            place: content
            for place, (_, content) in enumerate(decoded)
            if isinstance(content, PreparedImage)
        }
        if self._tiled is not None and prepared:
            row = self._row_in_tiles(decoded[0][0], tuple(prepared.values()))
            return table_of([row], self._schema)
        rows: list[Row | None] = [
            failed_row(path, content) if isinstance(content, Failure) else None
            for path, content in decoded
        ]
        for batch in self._batches(prepared):
            results = self._run([prepared[place] for place in batch])
            for place, result in zip(batch, results, strict=True):
                rows[place] = self._row(decoded[place][0], prepared[place], result)
        return table_of([row for row in rows if row is not None], self._schema)

    def _batches(self, prepared: dict[int, PreparedImage]) -> list[list[int]]:
        """Group the images of a chunk by the exact size of their inputs."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for place, image in prepared.items():
            by_size.setdefault(image.network_input.size, []).append(place)
        size = self._batch_size
        return [
            places[start : start + size]
            for places in by_size.values()
            for start in range(0, len(places), size)
        ]

    def _run(self, batch: list[PreparedImage]) -> list[InferenceResult | ServiceError]:
        return self._device.submit(self._network.run, _waiting(batch)).result()

    def _row(
        self, path: str, prepared: PreparedImage, result: InferenceResult | ServiceError
    ) -> Row:
        if isinstance(result, ServiceError):
            return failed_row(path, failure_of(result))
        engine_result = self._network.engine_result(prepared, result, _no_pixels)
        return row_of(path, self._network.rendered(engine_result).document)

    def _row_in_tiles(self, path: str, passes: tuple[PreparedImage, ...]) -> Row:
        """Predict on the only image of a chunk, with the device for all of its passes."""
        results = self._device.submit(
            run_passes, self._network, _waiting(passes), self._batch_size
        ).result()
        if isinstance(results, ServiceError):
            return failed_row(path, failure_of(results))
        assert self._tiled is not None
        grid = grid_of(passes[0].facts.height, passes[0].facts.width, self._tiled)
        image = TiledImage(grid, passes, decode_seconds=0.0)
        answer = answer_of_passes(self._network, image, results, self._tiled, _no_pixels)
        return row_of(path, answer.document)


def result_schema(request: PredictRequest, model: ModelInfo) -> pa.Schema:
    """Return the columns of the results."""
    from service.answers.embed import layer_of
    from service.api.queries import EmbedQuery

    query = request.query
    dimension = model.layers[layer_of(query, model)] if isinstance(query, EmbedQuery) else None
    return schema_of(request.task, dimension)


def _waiting(prepared: Sequence[PreparedImage]) -> list[WaitingInput]:
    return [WaitingInput(each.network_input, time.perf_counter()) for each in prepared]


def _no_pixels() -> Image.Image:
    raise AssertionError("nothing is drawn")
