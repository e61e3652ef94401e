"""What the routes share: limits, the decoding threads, the engines, and a request's journey."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from PIL import Image
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from model.config import Task
from service import metrics
from service.errors import DeadlineExceededError, NotReadyError, TaskOffError
from service.link.client import NetworkInput, Result
from service.link.messages import ModelInfo
from service.link.pool import EnginePool
from service.settings import MODELS, PREFIX, Settings
from service.web.bodies import find_image, read_body
from service.web.geometry import network_input, short_side_needed
from service.web.images import DecodedImage, ImageLimits, decode_image
from service.web.schemas import ImageFacts, Timing

THREADS = 2
"""That decode, and as many that render."""

MAX_IMAGE_SIDE = 32_768
"""Longest side, pixels, whatever the area."""

UNTRUSTED_WEIGHTS = frozenset({"demo", "random"})
"""An answer made with these says so, in the header X-Model-Weights."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Prepared:
    """An image, decoded and brought to the network's geometry.

    Attributes:
        network_input: what the engine gets.
        facts: what the caller is told of the image.
        decode_seconds: how long all of that took.
    """

    network_input: NetworkInput
    facts: ImageFacts
    decode_seconds: float


@dataclass(frozen=True)
class Answered:
    """An engine's answer, and what is needed to render it.

    Attributes:
        model: whose answer it is.
        prepared: what it is about.
        result: the answer.
        decode: decodes the image once more. Nothing keeps its pixels while the request waits: they
            may be a hundred times the file.
        given_up: set when nobody waits for the response any more.
    """

    model: ModelInfo
    prepared: Prepared
    result: Result
    decode: Callable[[], Image.Image]
    given_up: threading.Event

    def go_on(self) -> None:
        """Raise if nobody waits any more; long work calls this now and then."""
        if self.given_up.is_set():
            raise GivenUpError

    def timing(self, render_seconds: float) -> Timing:
        """Say where the time went."""
        return Timing(
            decode_seconds=self.prepared.decode_seconds,
            queue_seconds=self.result.queue_seconds,
            inference_seconds=self.result.inference_seconds,
            render_seconds=render_seconds,
            batch_size=self.result.batch_size,
        )


class GivenUpError(Exception):
    """Ends a thread's work on a response that nobody waits for; never reaches a caller."""


class Serving:
    """Everything that a route needs, handed in by ``service.web.app``."""

    def __init__(self, settings: Settings, engines: EnginePool) -> None:
        self.settings = settings
        self.engines = engines
        self.draining = False
        # Apart, so that pictures which take seconds to draw hold up no one's decoding.
        self._decoding = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
        self._rendering = ThreadPoolExecutor(THREADS, thread_name_prefix="render")
        self._limits = ImageLimits(settings.max_image_pixels, MAX_IMAGE_SIDE)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.engines.ready and not self.draining

    def model_for(self, task: Task) -> ModelInfo:
        """Return the model that answers a task.

        Raises:
            TaskOffError: if the settings have none.
            NotReadyError: while no engine has said what it serves.
        """
        if self.settings.model_of(task) is None:
            setting = f"{PREFIX}{task.upper()}"
            raise TaskOffError(
                f"{setting}_MODEL is off. To {task}, start the service with it set to one of "
                f"{', '.join(MODELS[task])} and {setting}_WEIGHTS to a checkpoint's path."
            )
        for offer in self.engines.offers:
            for model in offer.models:
                if model.task is task:
                    return model
        raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)

    async def respond(
        self,
        request: Request,
        task: Task,
        timeout_seconds: float | None,
        render: Callable[[Answered], Response],
        *,
        renders_at_once: bool = False,
    ) -> Response:
        """Take a request from its body to its response.

        Args:
            request: whose body was not touched yet.
            task: what is wanted of its image.
            timeout_seconds: the caller's, if it named one.
            render: makes the response, in a thread.
            renders_at_once: that it is too quick to wait for a thread.

        Raises:
            ServiceError: as any stage refuses.
            ClientDisconnect: if the client left; whatever was going on is given up.
        """
        model = self.model_for(task)
        timeout_seconds = timeout_seconds or self.settings.default_timeout_seconds
        deadline = time.monotonic() + timeout_seconds
        body = await read_body(request, limit_bytes=self.settings.max_body_bytes, deadline=deadline)
        content_type = request.headers.get("content-type")
        stages: dict[str, float] = request.state.stages
        given_up = threading.Event()

        async def work() -> Response:
            async with _until(deadline, timeout_seconds):
                prepared = await _in_thread(self._decoding, self._prepare, body, content_type, task)
            stages["decode"] = prepared.decode_seconds
            # The engines keep the deadline themselves: they know why there is no answer yet.
            result = await self.engines.submit(
                task, prepared.network_input, deadline=deadline, timeout_seconds=timeout_seconds
            )
            stages["queue"] = result.queue_seconds
            stages["inference"] = result.inference_seconds
            answered = Answered(
                model,
                prepared,
                result,
                decode=lambda: self._decode(body, content_type, None).image,
                given_up=given_up,
            )
            started = time.perf_counter()
            if renders_at_once:
                response = render(answered)
            else:
                async with _until(deadline, timeout_seconds):
                    response = await _in_thread(self._rendering, render, answered)
            stages["render"] = time.perf_counter() - started
            if model.weights in UNTRUSTED_WEIGHTS:
                response.headers["X-Model-Weights"] = model.weights
            metrics.observe_stages(task, stages)
            return response

        try:
            return await _unless_client_leaves(request, work())
        finally:
            given_up.set()

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._decoding, self._rendering):
            threads.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, body: bytes, content_type: str | None, task: Task) -> Prepared:
        """Decode and resize, in a thread."""
        started = time.perf_counter()
        decoded = self._decode(body, content_type, short_side_needed(task, self.settings))
        original_size = (decoded.height, decoded.width)
        return Prepared(
            network_input=network_input(decoded.image, original_size, task, self.settings),
            facts=ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames),
            decode_seconds=time.perf_counter() - started,
        )

    def _decode(
        self, body: bytes, content_type: str | None, short_side_needed: int | None
    ) -> DecodedImage:
        upload = find_image(body, content_type)
        return decode_image(
            upload.body,
            content_type=upload.content_type,
            limits=self._limits,
            short_side_needed=short_side_needed,
        )


@asynccontextmanager
async def _until(deadline: float, timeout_seconds: float) -> AsyncIterator[None]:
    """Give the work inside up at the deadline, with DeadlineExceededError."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError:
        raise DeadlineExceededError(timeout_seconds=timeout_seconds) from None


async def _in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., Outcome], *arguments: Any
) -> Outcome:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


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
