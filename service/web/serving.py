"""What the routes share: limits, the decoding threads, the engines, and a request's journey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import ClientDisconnect, Request

from model.config import CLASSIFIERS
from model.preprocess import classification_input
from service.errors import DeadlineExceededError, NotReadyError
from service.link.client import EnginePool, Result
from service.link.messages import ModelInfo, Task
from service.settings import Settings
from service.web.bodies import find_image, read_body
from service.web.images import ImageLimits, decode_image
from service.web.schemas import ImageFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECODING_THREADS = 2
MAX_IMAGE_SIDE = 32_768
"""Longest side, pixels, whatever the area."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Prepared:
    """An image, decoded and brought to the network's geometry."""

    pixels: NDArray[np.uint8]
    facts: ImageFacts
    decode_seconds: float


class Serving:
    """Everything that a route needs, handed in by ``service.web.app``."""

    def __init__(self, settings: Settings, engines: EnginePool) -> None:
        self.settings = settings
        self.engines = engines
        self.draining = False
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")
        self._limits = ImageLimits(settings.max_image_pixels, MAX_IMAGE_SIDE)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.engines.ready and not self.draining

    def model_for(self, task: Task) -> ModelInfo:
        """Return the model that answers a task.

        Raises:
            NotReadyError: while no engine has said what it serves.
        """
        for offer in self.engines.offers:
            for model in offer.models:
                if model.task is task:
                    return model
        raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)

    async def classify(
        self, request: Request, timeout_seconds: float | None
    ) -> tuple[Prepared, Result]:
        """Take a request from its body to the engine's answer.

        Args:
            request: whose body was not touched yet.
            timeout_seconds: the caller's, if it named one.

        Raises:
            ServiceError: as any stage refuses.
            ClientDisconnect: if the client left; whatever was going on is given up.
        """
        timeout_seconds = timeout_seconds or self.settings.default_timeout_seconds
        deadline = time.monotonic() + timeout_seconds
        body = await read_body(request, limit_bytes=self.settings.max_body_bytes, deadline=deadline)
        return await _unless_client_leaves(
            request,
            self._decode_and_infer(
                body, request.headers.get("content-type"), deadline, timeout_seconds
            ),
        )

    def close(self) -> None:
        """Let the decoding threads end."""
        self._decoding.shutdown(wait=False, cancel_futures=True)

    async def _decode_and_infer(
        self, body: bytes, content_type: str | None, deadline: float, timeout_seconds: float
    ) -> tuple[Prepared, Result]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                prepared = await loop.run_in_executor(
                    self._decoding, self._prepare, body, content_type
                )
        except TimeoutError:
            raise DeadlineExceededError(timeout_seconds=timeout_seconds) from None
        result = await self.engines.submit(
            Task.CLASSIFY, prepared.pixels, deadline=deadline, timeout_seconds=timeout_seconds
        )
        return prepared, result

    def _prepare(self, body: bytes, content_type: str | None) -> Prepared:
        """Decode and resize, in a thread."""
        started = time.perf_counter()
        geometry = CLASSIFIERS[self.settings.classify_model].geometry
        upload = find_image(body, content_type)
        decoded = decode_image(
            upload.body,
            content_type=upload.content_type,
            limits=self._limits,
            short_side_needed=geometry.resize_short_side,
        )
        pixels = classification_input(decoded.image, geometry)
        facts = ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames)
        return Prepared(pixels, facts, time.perf_counter() - started)


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingDep = Annotated[Serving, Depends(_serving)]


async def _unless_client_leaves(request: Request, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Await ``work``, or cancel it and raise ClientDisconnect when the connection closes."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_client_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _client_gone(request: Request) -> None:
    """Return when the client leaves; the body has been read, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
