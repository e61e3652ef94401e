"""BentoML: a service that decodes in front of one with adaptive batching.

Source: BentoML's pages on adaptive batching, model composition (``depends``) and ASGI integration,
through which the raw body gets in. Started by ``bentoml serve``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import bentoml  # type: ignore[import-not-found]
import numpy as np
from bentoml.exceptions import BentoMLException  # type: ignore[import-not-found]
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.serving.peer_work import answer, chosen_decoder
from benchmarks.serving.simulated_device import MAX_BATCH_SIZE, run_batch

if TYPE_CHECKING:
    from starlette.requests import Request

decode = chosen_decoder()

MAX_LATENCY_MS = 10_000
"""Timeout of a request, as for the other contestants."""

app = Starlette()


@bentoml.service(traffic={"timeout": 30})
class Device:
    """Takes batches."""

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS
    )
    def scores(self, images: np.ndarray) -> np.ndarray:
        """Classify (B, 224, 224, 3) uint8."""
        return np.stack(run_batch(list(images)))


@bentoml.service(traffic={"timeout": 30})
@bentoml.asgi_app(app)
class Classifier:
    """Takes the raw body."""

    device = bentoml.depends(Device)

    def __init__(self) -> None:
        app.router.routes.append(Route("/classify", self.classify, methods=["POST"]))

    async def classify(self, request: Request) -> JSONResponse:
        """Decode in a thread, have the device classify, answer."""
        pixels = await asyncio.to_thread(decode, await request.body())
        try:
            scores: Any = await self.device.to_async.scores(pixels[None])
        except BentoMLException as error:
            return JSONResponse({"error": str(error)}, status_code=error.error_code)
        return JSONResponse(answer(scores[0]))
