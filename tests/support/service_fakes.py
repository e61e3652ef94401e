from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI
from msgspec.structs import replace
from numpy.typing import NDArray

from model.config import Operation, Task
from service.api.errors import NotReadyError
from service.link.messages import (
    CostInfo,
    FallbackInfo,
    InferenceResult,
    InputInfo,
    ModelInfo,
    NetworkInput,
    Question,
    Welcome,
)
from service.link.pool import EnginePool
from service.processes.state import ConfiguredModel
from service.settings import Settings
from service.web.app import create_app

LABELS = ("circle", "square", "star", "ring")
COLORS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (9, 9, 9))
LOGITS = np.log(np.array([0.1, 0.2, 0.65, 0.05], np.float32))

LAYERS = {"head": 6, "backbone": 4, "stage1": 2}
"""Lengths of the embeddings; a segmenter and a detector have no head."""

SOURCES = dict.fromkeys(("mean", "std"), "architecture")
CLASSIFIER_SOURCES = {
    **dict.fromkeys(("input_size", "crop_pct", "interpolation"), "architecture"),
    **SOURCES,
}

CLASSIFIER = ModelInfo(
    name="demo",
    task=Task.CLASSIFY,
    architecture="demo",
    weights="demo",
    weights_sha256="ab" * 32,
    weights_kind="raw",
    activation="softmax",
    labels=LABELS,
    colors=COLORS,
    input=InputInfo(
        height=224, width=224, crop_pct=1.0, interpolation="bicubic", sources=CLASSIFIER_SOURCES
    ),
    device="cpu",
    device_name="CPU, 2 threads",
    dtype="float32",
    dtype_reason="OVERLOCK_DTYPE=float32",
    kernels="native",
    compiled=False,
    compiled_reason="auto: the device is a CPU",
    batch_sizes=(1, 2, 4),
    layers=LAYERS,
    has_overview=True,
)
DENSE_LAYERS = {name: length for name, length in LAYERS.items() if name != "head"}
SEGMENTED = InputInfo(short_side=160, long_side=640, multiple=32, sources=SOURCES)
DETECTED = InputInfo(short_side=800, long_side=1333, multiple=32, sources=SOURCES)
SEGMENTER = replace(
    CLASSIFIER,
    name="demo-segment",
    task=Task.SEGMENT,
    weights="random",
    weights_sha256=None,
    input=SEGMENTED,
    layers=DENSE_LAYERS,
    has_overview=False,
)
DETECTOR = replace(
    CLASSIFIER,
    name="mask_rcnn_overlock_xt",
    architecture="mask_rcnn_overlock_xt",
    task=Task.DETECT,
    weights="x.pth",
    weights_sha256="cd" * 32,
    input=DETECTED,
    layers=DENSE_LAYERS,
    has_overview=False,
    fallbacks=(FallbackInfo("record", "no graph could be captured"),),
)
WELCOME = Welcome(
    "first",
    True,
    (CLASSIFIER, SEGMENTER, DETECTOR),
    (CostInfo(CLASSIFIER.operation, (224, 224), 0.01, 0.02),),
    0,
    {},
)

BOXES = np.array([[4, 2, 20, 10], [30, 20, 50, 44], [0, 0, 64, 48]], np.float32)
DETECTION_SCORES = np.array([0.9, 0.6, 0.1], np.float32)
DETECTION_LABELS = np.array([2, 0, 3], np.int64)


class FakeEngines:
    """Engines that answer at once, or as a test sets them, of one generation after another.

    They segment an image into its left half, class 2, and its right half, class 0.
    """

    def __init__(self) -> None:
        self.ready = True
        self.models: tuple[ModelInfo, ...] = (CLASSIFIER, SEGMENTER, DETECTOR)
        self.images: list[NetworkInput] = []
        self.questions: list[Question] = []
        self.timeouts: list[float] = []
        self.error: Exception | None = None
        self.hang = False
        self.down = False
        self.late: Exception | None = None
        self.cancelled = asyncio.Event()
        self.generation = 1
        self.reload_error: str | None = None
        self.held = 0
        self.has_overview = True

    @property
    def current(self) -> FakeEngines:
        return self

    @property
    def shown(self) -> FakeEngines:
        return self

    @contextmanager
    def entered(self) -> Iterator[FakeEngines]:
        self.held += 1
        try:
            yield self
        finally:
            self.held -= 1

    def find(self, task: Task, name: str | None) -> ModelInfo | None:
        return EnginePool.find(self, task, name)  # type: ignore[arg-type]  # of the offers alone

    def by_name(self) -> dict[str, ModelInfo]:
        return EnginePool.by_name(self)  # type: ignore[arg-type]

    def named(self, name: str) -> ModelInfo:
        return EnginePool.named(self, name)  # type: ignore[arg-type]

    @property
    def pending_work_seconds(self) -> float:
        return 2.5

    def reject_unreachable_deadline(
        self, operation: Operation, timeout_seconds: float, *, ahead_seconds: float
    ) -> None:
        if self.late is not None:
            raise self.late

    @property
    def offers(self) -> list[Welcome]:
        return [replace(WELCOME, models=self.models)] if self.ready else []

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def submit(
        self,
        model: ModelInfo,
        question: Question,
        image: NetworkInput,
        *,
        deadline: float,
        timeout_seconds: float,
    ) -> InferenceResult:
        self.images.append(image)
        self.questions.append(question)
        self.timeouts.append(timeout_seconds)
        if self.error is not None:
            raise self.error
        if self.down:
            # As the link does it while an engine is being restarted.
            await asyncio.sleep(deadline - time.monotonic() + 0.02)
            raise NotReadyError("The engine is being restarted.", retry_after_seconds=1.0)
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return InferenceResult(
            _arrays(model, question, image, has_overview=self.has_overview),
            queue_seconds=0.001,
            inference_seconds=0.02,
            batch_size=3,
        )


def _arrays(
    model: ModelInfo, question: Question, image: NetworkInput, *, has_overview: bool
) -> tuple[NDArray[Any], ...]:
    match question.task:
        case Task.EMBED:
            return (
                np.arange(LAYERS[question.layer or next(iter(model.layers))], dtype=np.float32),
            )
        case Task.EXPLAIN:
            best = np.argsort(-LOGITS)[: len(question.class_ids)]
            ids = np.where(np.array(question.class_ids) < 0, best, question.class_ids)
            maps = LOGITS[ids, None, None] + np.linspace(-1, 1, 49, dtype=np.float32).reshape(7, 7)
            return (LOGITS, ids, maps, -maps)[: None if has_overview else 3]
        case Task.CLASSIFY:
            return (LOGITS,)
        case Task.SEGMENT if question.logits:
            return (half_logits(image.size),)
        case Task.SEGMENT:
            return (halves(*image.original_size),)
        case Task.DETECT:
            masks = np.ones((len(BOXES), 28, 28), np.float32)
            return BOXES, DETECTION_SCORES, DETECTION_LABELS, masks


def halves(height: int, width: int) -> NDArray[np.uint8]:
    label_map = np.zeros((height, width), np.uint8)
    label_map[:, : width // 2] = 2
    return label_map


def half_logits(network_size: tuple[int, int]) -> NDArray[np.float16]:
    height, width = (side // 4 for side in network_size)
    logits = np.full((len(LABELS), height, width), -9, np.float16)
    logits[2, :, : width // 2] = 0
    logits[0, :, width // 2 :] = 0
    return logits


class FakeControl:
    """Model control that changes the names at once, or as a test sets it.

    Args:
        names: of the configured models.

    Attributes:
        error: raised by every change.
        hang: whether changes last until they are cancelled.
        changes: that were asked for.
    """

    def __init__(self, *names: str) -> None:
        self.listed = [ConfiguredModel(name) for name in names]
        self.error: Exception | None = None
        self.hang = False
        self.cancelled = asyncio.Event()
        self.changes: list[tuple[str, str]] = []

    def models(self) -> list[ConfiguredModel]:
        return list(self.listed)

    async def load(self, name: str) -> None:
        await self._change("load", ConfiguredModel(name))

    async def unload(self, name: str) -> None:
        await self._change("unload", ConfiguredModel(name, "UNAVAILABLE", "unloaded"))

    async def _change(self, action: str, after: ConfiguredModel) -> None:
        self.changes.append((action, after.name))
        if self.error is not None:
            raise self.error
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        self.listed = [after if each.name == after.name else each for each in self.listed]


def fake_app(
    settings: Settings, engines: FakeEngines, control: FakeControl | None = None
) -> FastAPI:
    """Return the application, with engines and a model control that the test sets."""
    if control is None:
        control = FakeControl(*(model.name for model in engines.models))
    return create_app(settings, engines, control)  # type: ignore[arg-type]  # fake engines


async def until_engines_have(engines: FakeEngines, count: int) -> None:
    """Wait until the engines were given so many images."""
    async with asyncio.timeout(5):
        while len(engines.images) < count:
            await asyncio.sleep(0.001)
