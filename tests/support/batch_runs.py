"""Runs of ``overlock batch`` in the tests' own process, and what they leave."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from msgspec.structs import replace

from model.scenes.scenes import draw_scene
from service.answers.classify import classify_document
from service.answers.inference import EngineResult
from service.api.errors import ServiceError
from service.api.queries import ClassifyQuery
from service.api.schemas import Timing
from service.commands.batch.actors import Decoder, Predictor, Work, describe
from service.commands.batch.arguments import fill_parser
from service.commands.batch.pipeline import Pools
from service.commands.console.exits import RefusedError
from service.commands.predict.network import WaitingInput
from service.commands.predict.outcome import PredictAnswer, PredictRequest
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, ModelInfo
from service.settings import ModelSpec, Settings
from support.scene_files import png
from support.service_fakes import CLASSIFIER

Batch = Callable[..., int]
"""Runs ``overlock batch`` with a command's words; returns the exit code."""


class MeanNetwork:
    """A classifier whose logits are means of the pixels: quick, and each image has its own.

    Args:
        settings: unused.
        spec: its weights are the file whose contents make the digest.
        request: a classification.
        batch_size: unused.
    """

    def __init__(
        self, settings: Settings, spec: ModelSpec, request: PredictRequest, batch_size: int
    ) -> None:
        dtype = "float32" if settings.dtype == "auto" else settings.dtype
        self.model: ModelInfo = replace(CLASSIFIER, name=spec.name, dtype=dtype)
        assert isinstance(request.query, ClassifyQuery)
        self._query = request.query

    def run(self, batch: Sequence[WaitingInput]) -> list[InferenceResult | ServiceError]:
        """Return the means of the quarters of each image."""
        found: list[InferenceResult | ServiceError] = []
        for waiting in batch:
            pixels = waiting.network_input.pixels
            quarters = np.array_split(pixels.astype(np.float32) / 255, 4)
            logits = np.array([quarter.mean() for quarter in quarters], np.float32)
            found.append(InferenceResult((logits,), 0.0, 0.0, len(batch)))
        return found

    def answer(
        self, prepared: PreparedImage, result: InferenceResult, decode: Any
    ) -> PredictAnswer:
        """Return the service's document."""
        timing = Timing(
            decode_seconds=0, queue_seconds=0, inference_seconds=0, render_seconds=0, batch_size=1
        )
        shown = EngineResult(self.model, prepared, result, timing, decode, cancelled=None)  # type: ignore[arg-type]
        return PredictAnswer(classify_document(shown, self._query), None)


def arguments(*words: str) -> argparse.Namespace:
    """Parse a command's words, of which the first is the task."""
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    return parser.parse_args(words)


def no_ray(**_: Any) -> AbstractContextManager[Any]:
    """Stand in for a Ray of one's own: its module, of which nothing is started."""
    return nullcontext(ray)


def described_here(_: Any, work: Work, __: Pools) -> ModelInfo:
    """Load the network in this process."""
    found = describe(work)
    if isinstance(found, str):
        raise RefusedError(found)
    return found


def pipeline_here(
    _: Any, chunks: Sequence[pa.Table], work: Work, model: ModelInfo, *__: Any
) -> Iterator[pa.Table]:
    """Run the pipeline's two classes in this process, chunk by chunk."""
    decoder, predictor = Decoder(work, model), Predictor(work)
    for chunk in chunks:
        yield predictor(decoder(pa.table({"items": [chunk.to_pylist()]})))


def write_scenes(folder: Path, count: int, sizes: Sequence[tuple[int, int]] = ((64, 80),)) -> None:
    """Write images ``000.png`` and so on, in turns of these heights and widths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        scene = draw_scene(530_000 + number, height, width)
        (folder / f"{number:03d}.png").write_bytes(png(scene.image))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a finished run, part by part, as its manifest lists them."""
    manifests = sorted(folder.glob("manifest*.json"))
    parts = [part["name"] for each in manifests for part in json.loads(each.read_text())["parts"]]
    return [row for name in parts for row in pq.read_table(folder / name).to_pylist()]


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all that lies in a folder, hidden files too."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
