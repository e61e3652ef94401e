"""Pipeline of a request: admission, body, decoding, engine, rendering."""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.responses import Response

from model.config import Task
from service import metrics, tracing
from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError, ServiceError, TaskOffError
from service.api.schemas import Timing
from service.images.preparation import ImagePreparer, PreparedImage, TiledImage
from service.link.messages import ModelInfo, Question
from service.link.pool import Generations, OfferedModel
from service.settings import Settings
from service.web.admission import (
    ConcurrencyLimiter,
    declared_length,
    read_body,
)
from service.web.http.content_codings import content_coding, inflate
from service.web.http.middleware import Draining
from service.web.pipeline.request_context import (
    DecodeWaitEstimator,
    RequestContext,
    unless_client_leaves,
)
from service.web.pipeline.threads import Threads, decoded_together

REQUEST_STAGES = ("read", "render")
"""Stages observed for each request; an engine observes the device's for each batch."""

IMAGE_STAGES = ("decode", "queue", "inference")
"""Stages observed for each image."""

QUESTIONS = {task: Question(task) for task in Task}
"""The plain question of each task."""

ResultT = TypeVar("ResultT")
PreparedT = TypeVar("PreparedT", PreparedImage, TiledImage)


class Pipeline:
    """Takes requests from body to response; ``service.web.app`` hands it to every route."""

    def __init__(self, settings: Settings, generations: Generations) -> None:
        self.settings = settings
        self.generations = generations
        self.draining = Draining()
        # Two pools, so that pictures which take seconds to draw do not delay decoding.
        self._decode_threads = Threads("decode", decoded_together())
        self._render_threads = Threads("render")
        self.preparer = ImagePreparer(settings)
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
            yield OfferedModel(found, engines, QUESTIONS[task])

    @contextmanager
    def model_named(self, name: str) -> Iterator[OfferedModel]:
        """Find a model of any task by its name, as ``model_for`` does, for its own task."""
        with self.generations.entered() as engines:
            found = engines.named(name)
            yield OfferedModel(found, engines, QUESTIONS[found.task])

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
        request.state.model = model.info.name
        limit_bytes = self.settings.max_body_bytes
        headers = request.headers
        coding = content_coding(headers) if "content-encoding" in headers else None
        declared_bytes = declared_length(request, limit_bytes=limit_bytes)
        with self.admitted(
            model, timeout_seconds, request.state.stages, declared_bytes=declared_bytes
        ) as context:
            started = time.perf_counter()
            body = await read_body(
                request, limit_bytes=limit_bytes, deadline=context.deadline, permit=context.permit
            )
            context.record("read", time.perf_counter() - started)
            context.permit.start()
            context.body, context.coding = body, coding
            context.content_type = headers.get("content-type")
            yield context

    @contextmanager
    def admitted(
        self,
        model: OfferedModel,
        timeout_seconds: float | None,
        stages: dict[str, float],
        *,
        declared_bytes: int,
    ) -> Iterator[RequestContext]:
        """Admit a request whose body has yet to arrive; its place is free when the block ends.

        Args:
            model: returned by ``model_for`` or ``model_named``.
            timeout_seconds: the caller's, if it named one.
            stages: seconds of the request's stages, filled on the way.
            declared_bytes: of the body; 0 if they are not known.
        """
        tracing.describe(model=model.info.name)
        timeout_seconds = timeout_seconds or self.settings.default_timeout_seconds
        if timeout_seconds > self.settings.max_timeout_seconds:
            raise InvalidParameterError(
                f"timeout is {timeout_seconds:g}; it may be at most "
                f"{self.settings.max_timeout_seconds:g} here."
            )
        self.reject_unreachable_deadline(model, timeout_seconds)
        deadline = time.monotonic() + timeout_seconds
        with (
            self.draining.request(),
            self.limiter.admit(model.operation, declared_bytes=declared_bytes) as permit,
        ):
            context = RequestContext(model, deadline, timeout_seconds, permit, stages)
            try:
                yield context
            except ServiceError:
                metrics.observe_failure(model.info.name, time.monotonic() - context.arrived)
                raise
            finally:
                context.cancelled.set()

    def reject_unreachable_deadline(self, model: OfferedModel, left_seconds: float) -> None:
        """Raise DeadlineUnreachableError if a request cannot be answered in the time left to it."""
        model.engines.reject_unreachable_deadline(
            model.operation, left_seconds, ahead_seconds=self._decode_wait.wait_seconds
        )

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
        prepare = partial(self.preparer.prepare, context.body, context.content_type)
        return await self.ask(context, await self.prepared(context, prepare))

    async def prepared(
        self, context: RequestContext, prepare: Callable[[ModelInfo], PreparedT]
    ) -> PreparedT:
        """Bring an image to the model's geometry, in a thread.

        Raises:
            ServiceError: if the image is rejected, or the deadline passes.
        """
        with self._decode_wait.waiting():
            prepared = await context.in_time(self.in_decode_thread(prepare, context.model.info))
        context.record("decode", prepared.decode_seconds)
        context.permit.hold_more(prepared.input_bytes)
        return prepared

    async def ask(self, context: RequestContext, prepared: PreparedImage) -> EngineResult:
        """Have an engine answer the request's question about an image.

        Raises:
            ServiceError: if the engine rejects it, or the deadline passes.
        """
        stages, model = context.stages, context.model
        # The engines keep the deadline themselves: they know why there is no answer yet.
        result = await model.engines.submit(
            model.info,
            model.question,
            prepared.network_input,
            deadline=context.deadline,
            timeout_seconds=context.timeout_seconds,
        )
        context.permit.hold_more(sum(array.nbytes for array in result.arrays))
        stages |= {"queue": result.queue_seconds, "inference": result.inference_seconds}
        metrics.observe_stages(model.operation, **{stage: stages[stage] for stage in IMAGE_STAGES})
        return EngineResult(
            model.info,
            prepared,
            result,
            Timing(
                decode_seconds=prepared.decode_seconds,
                queue_seconds=result.queue_seconds,
                inference_seconds=result.inference_seconds,
                render_seconds=0.0,
                batch_size=result.batch_size,
            ),
            decode=lambda: self.preparer.decode(context.body, context.content_type).image,
            cancelled=context.cancelled,
        )

    async def rendered(
        self, context: RequestContext, render: Callable[[], Response], *, renders_at_once: bool
    ) -> Response:
        """Render a response, and put the model's headers on it."""
        response = await self.finished(context, render, at_once=renders_at_once)
        response.headers.update(context.model_headers)
        return response

    async def finished(
        self, context: RequestContext, render: Callable[[], ResultT], *, at_once: bool
    ) -> ResultT:
        """Make the answer of a request, in a thread unless it is quick."""
        started = time.perf_counter()
        if at_once:
            answer = render()
        else:
            answer = await context.in_time(self._render_threads.call(render))
        context.record("render", time.perf_counter() - started)
        own = {stage: context.stages[stage] for stage in REQUEST_STAGES if stage in context.stages}
        metrics.observe_stages(context.model.operation, **own)
        return answer

    async def inflated(self, context: RequestContext) -> RequestContext:
        """Decompress the body, if it is compressed."""
        if context.coding is None:
            return context
        limit_bytes = self.settings.max_body_bytes
        inflating = partial(inflate, context.body, context.coding, limit_bytes=limit_bytes)
        body = await context.in_time(self.in_decode_thread(inflating))
        context.permit.hold(len(body))
        return replace(context, body=body, coding=None)

    def in_decode_thread(
        self, function: Callable[..., ResultT], *arguments: Any
    ) -> Future[ResultT]:
        """Call a function in a thread for decoding."""
        return self._decode_threads.call(function, *arguments)

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._decode_threads, self._render_threads):
            threads.close()


async def _pipeline(request: Request) -> Pipeline:
    # Async, or FastAPI would call it in a thread for every request.
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


PipelineDep = Annotated[Pipeline, Depends(_pipeline)]
