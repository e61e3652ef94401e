from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from service.link.client import Result
from service.link.messages import CostInfo, ModelInfo, Task, Welcome

LABELS = ("circle", "square", "star", "ring")
SCORES = np.array([0.1, 0.2, 0.65, 0.05], np.float32)

MODEL = ModelInfo(
    name="demo",
    task=Task.CLASSIFY,
    weights="demo",
    weights_sha256="ab" * 32,
    labels=LABELS,
    input_height=224,
    input_width=224,
    device="cpu",
    device_name="CPU, 2 threads",
    dtype="float32",
    compiled=False,
    batch_sizes=(1, 2, 4),
)
WELCOME = Welcome("first", True, (MODEL,), (CostInfo(Task.CLASSIFY, (224, 224, 3), 0.01, 0.02),), 0)


class FakeEngines:
    """Engines that answer at once, or as the test says."""

    def __init__(self) -> None:
        self.ready = True
        self.images: list[Any] = []
        self.timeouts: list[float] = []
        self.error: Exception | None = None
        self.hang = False
        self.cancelled = asyncio.Event()

    @property
    def offers(self) -> list[Welcome]:
        return [WELCOME] if self.ready else []

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def submit(
        self, task: Task, image: Any, *, deadline: float, timeout_seconds: float
    ) -> Result:
        self.images.append(image)
        self.timeouts.append(timeout_seconds)
        if self.error is not None:
            raise self.error
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return Result((SCORES,), queue_seconds=0.001, inference_seconds=0.02, batch_size=3)
