"""The path of a request through an HTTP worker: admission, body, decoding, engine, rendering."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from model.config import Operation, Task
from service import metrics, tracing
from service.answers.inference import EngineResult
from service.api.errors import DeadlineExceededError, TaskOffError
from service.api.schemas import NOTES, Timing
from service.images.preparation import ImagePreparer
from service.link.messages import Question
from service.link.pool import Generations, OfferedModel
from service.settings import Settings
from service.web.admission import (
    ConcurrencyLimiter,
    DecodeWaitEstimator,
    Permit,
    declared_length,
    read_body,
)
from service.web.bodies import content_coding, inflate
from service.web.http.middleware import Draining, unless_client_leaves

THREADS = 2
"""Number of decoding threads, and of rendering threads."""

NICENESS = 5
"""Niceness of those threads, added to the process's own."""

OWN_STAGES = ("read", "decode", "queue", "render")
"""Stages observed for each request; an engine observes the device's for each batch."""

NO_DIGEST = "0"
"""X-Model-Digest of random weights, which have no file."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RequestContext:
    """A request whose body has arrived.

    Attributes:
        model: the model that answers it.
        body: the raw bytes of the request's body.
        content_type: the request's Content-Type header.
        coding: the body's content coding; None if it comes as it is.
        deadline: monotonic moment after which the caller no longer waits.
        timeout_seconds: the caller's timeout, or the default one.
        permit: counts its bytes.
        stages: seconds that each stage took, filled on the way.
        cancelled: set when the caller no longer waits for the response.
    """

    model: OfferedModel
    body: bytes
    content_type: str | None
    coding: str | None
    deadline: float
    timeout_seconds: float
    permit: Permit
    stages: dict[str, float]
    cancelled: threading.Event = field(default_factory=threading.Event)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Cancel the block at the deadline and raise DeadlineExceededError."""
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            raise DeadlineExceededError(timeout_seconds=self.timeout_seconds) from None


class Pipeline:
    """Takes requests from body to response; ``service.web.app`` hands it to every route."""

    def __init__(self, settings: Settings, generations: Generations) -> None:
        self.settings = settings
        self.generations = generations
        self.draining = Draining()
        # Two pools, so that pictures which take seconds to draw do not delay decoding.
        self._decode_threads = _threads("decode")
        self._render_threads = _threads("render")
        self._preparer = ImagePreparer(settings)
        self._decode_wait = DecodeWaitEstimator()
        self.limiter = ConcurrencyLimiter(
            max_requests=settings.max_queue_requests * len(settings.devices.split(",")),
            max_bytes=settings.max_queue_bytes,
            retry_after_seconds=lambda: generations.current.pending_work_seconds,
        )

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.generations.current.ready and not self.draining.begun

    @contextmanager
    def model_for(self, task: Task, name: str | None) -> Iterator[OfferedModel]:
        """Find the model of a request; its engines do not end while the block runs.

        Args:
            task: that it has to perform.
            name: as the caller gives it; None for the task's default model.

        Raises:
            NotReadyError: while no engine has said what it serves.
            UnknownModelError: if there is no model of that name.
            InvalidParameterError: if it performs another task.
            TaskOffError: if no model performs the task.
        """
        with self.generations.entered() as engines:
            found = engines.find(task, name)
            if found is None:
                raise TaskOffError(self.settings.how_to_serve(task))
            yield OfferedModel(found, engines, Question(task))

    async def respond(
        self,
        request: Request,
        model: OfferedModel,
        timeout_seconds: float | None,
        render: Callable[[EngineResult], Response],
        *,
        renders_at_once: bool = False,
    ) -> Response:
        """Admit a request, read its body and answer it.

        Args:
            request: its body has not been read yet.
            model: returned by ``model_for``.
            timeout_seconds: the caller's, if it named one.
            render: makes the response, in a thread.
            renders_at_once: whether rendering is too quick to be worth a thread.

        Raises:
            ServiceError: if any stage rejects the request.
            ClientDisconnect: if the client left; work on its request is cancelled.
        """
        async with self.received(request, model, timeout_seconds) as context:
            return await unless_client_leaves(
                request, self._run(context, render, renders_at_once=renders_at_once)
            )

    @asynccontextmanager
    async def received(
        self, request: Request, model: OfferedModel, timeout_seconds: float | None
    ) -> AsyncIterator[RequestContext]:
        """Admit a request and read its body; its place is free again when the block ends.

        Arguments and errors are those of ``respond``.
        """
        operation = Operation(model.info.name, model.question.task)
        request.state.model = operation.model
        tracing.describe(model=operation.model)
        timeout_seconds = timeout_seconds or self.settings.default_timeout_seconds
        model.engines.reject_unreachable_deadline(
            operation, timeout_seconds, ahead_seconds=self._decode_wait.wait_seconds
        )
        deadline = time.monotonic() + timeout_seconds
        limit_bytes = self.settings.max_body_bytes
        headers, stages = request.headers, request.state.stages
        coding = content_coding(headers) if "content-encoding" in headers else None
        declared_bytes = declared_length(request, limit_bytes=limit_bytes)
        admitted = self.limiter.admit(operation, declared_bytes=declared_bytes)
        with self.draining.request(), admitted as permit:
            started = time.perf_counter()
            body = await read_body(
                request, limit_bytes=limit_bytes, deadline=deadline, permit=permit
            )
            _record(stages, "read", time.perf_counter() - started)
            permit.start()
            content_type = headers.get("content-type")
            context = RequestContext(
                model, body, content_type, coding, deadline, timeout_seconds, permit, stages
            )
            try:
                yield context
            finally:
                context.cancelled.set()

    async def _run(
        self,
        context: RequestContext,
        render: Callable[[EngineResult], Response],
        *,
        renders_at_once: bool,
    ) -> Response:
        """Decode, infer and render."""
        context = await self.inflated(context)
        engine_result = await self.infer(context)
        return await self.rendered(
            context, partial(render, engine_result), renders_at_once=renders_at_once
        )

    async def infer(self, context: RequestContext) -> EngineResult:
        """Decode a request's image and have an engine answer.

        Raises:
            ServiceError: if any stage rejects the image.
        """
        stages, model = context.stages, context.model.info
        async with context.in_time():
            with self._decode_wait.waiting():
                prepared = await self.in_decode_thread(
                    self._preparer.prepare, context.body, context.content_type, model
                )
        _record(stages, "decode", prepared.decode_seconds)
        context.permit.hold_more(prepared.network_input.pixels.nbytes)
        # The engines keep the deadline themselves: they know why there is no answer yet.
        result = await context.model.engines.submit(
            model,
            context.model.question,
            prepared.network_input,
            deadline=context.deadline,
            timeout_seconds=context.timeout_seconds,
        )
        context.permit.hold_more(sum(array.nbytes for array in result.arrays))
        stages |= {"queue": result.queue_seconds, "inference": result.inference_seconds}
        return EngineResult(
            model,
            prepared,
            result,
            Timing(
                decode_seconds=prepared.decode_seconds,
                queue_seconds=result.queue_seconds,
                inference_seconds=result.inference_seconds,
                render_seconds=0.0,
                batch_size=result.batch_size,
            ),
            decode=lambda: self._preparer.decode(context.body, context.content_type).image,
            cancelled=context.cancelled,
        )

    async def rendered(
        self, context: RequestContext, render: Callable[[], Response], *, renders_at_once: bool
    ) -> Response:
        """Render a response, and put the model's headers on it."""
        stages, model = context.stages, context.model.info
        started = time.perf_counter()
        if renders_at_once:
            response = render()
        else:
            async with context.in_time():
                response = await _in_thread(self._render_threads, render)
        _record(stages, "render", time.perf_counter() - started)
        response.headers["X-Model-Digest"] = model.weights_sha256 or NO_DIGEST
        if model.weights in NOTES:
            response.headers["X-Model-Weights"] = model.weights
        own = {stage: stages[stage] for stage in OWN_STAGES}
        metrics.observe_stages(Operation(model.name, context.model.question.task), **own)
        return response

    async def inflated(self, context: RequestContext) -> RequestContext:
        """Decompress the body, if it is compressed."""
        if context.coding is None:
            return context
        limit_bytes = self.settings.max_body_bytes
        async with context.in_time():
            body = await self.in_decode_thread(
                partial(inflate, context.body, context.coding, limit_bytes=limit_bytes)
            )
        context.permit.hold(len(body))
        return replace(context, body=body, coding=None)

    async def in_decode_thread(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call a function in a thread for decoding."""
        return await _in_thread(self._decode_threads, function, *arguments)

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._decode_threads, self._render_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _record(stages: dict[str, float], stage: str, seconds: float) -> None:
    """Record a stage that has just ended."""
    stages[stage] = seconds
    now = time.monotonic()
    tracing.record(stage, now - seconds, now)


def _threads(name: str) -> ThreadPoolExecutor:
    # On Linux a niceness is a thread's. Where cores are few, the event loop, which rejects excess
    # requests, runs before the decoding of those that were admitted.
    return ThreadPoolExecutor(
        THREADS, thread_name_prefix=name, initializer=os.nice, initargs=(NICENESS,)
    )


async def _in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., ResultT], *arguments: Any
) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


async def _pipeline(request: Request) -> Pipeline:
    # Async, or FastAPI would call it in a thread for every request.
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


PipelineDep = Annotated[Pipeline, Depends(_pipeline)]
