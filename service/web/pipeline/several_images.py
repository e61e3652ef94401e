"""Several images in one call: each is a request of its own to the scheduler, the answer is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from service.answers.inference import EngineResult
from service.api.errors import ServiceError
from service.images.preparation import PreparedImage
from service.link.messages import ModelInfo, Question
from service.web.pipeline.pipeline import IMAGE_STAGES, Pipeline
from service.web.pipeline.request_context import RequestContext
from service.web.tracebacks import release

OF_THE_LOAD = {429, 503, 504}
"""Statuses of errors that no image of a request caused."""

Image = Callable[[ModelInfo], PreparedImage]
"""Decodes one image for a model."""


async def infer_images(
    pipeline: Pipeline,
    context: RequestContext,
    images: Sequence[Image],
    questions: Sequence[Question],
    *,
    name: str,
) -> list[tuple[EngineResult, ...]]:
    """Have engines answer questions about images, all at once.

    The call takes a place for each image and question. The first error is the call's; the other
    images are cancelled.

    Args:
        pipeline: of the worker.
        context: of the call, with its model.
        images: at least one.
        questions: asked of each image, at least one.
        name: of the images, for an error that one of them caused.

    Returns:
        For each image an answer to each question.

    Raises:
        ServiceError: if an image, or the call, is rejected.
    """
    models = [replace(context.model, question=question) for question in questions]
    context.permit.widen([model.operation for model in models for _ in images])
    apart = [replace(context, stages=dict(context.stages)) for _ in images]

    async def answered(place: int) -> tuple[EngineResult, ...]:
        one = apart[place]
        try:
            prepared = await pipeline.prepared(one, images[place])
            return tuple(
                [await pipeline.ask(replace(one, model=model), prepared) for model in models]
            )
        except ServiceError as error:
            if error.status not in OF_THE_LOAD:
                error.detail = f"{name}[{place}]: {error.detail}"
            raise

    if len(images) == 1:
        results = [await answered(0)]
    else:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answered(place)) for place in range(len(images))]
        except ExceptionGroup as failures:
            if isinstance(failures.exceptions[0], ServiceError):  # the log shows others' frames
                release(failures)
            raise failures.exceptions[0] from None
        except asyncio.CancelledError as cancelled:
            release(cancelled)
            raise
        results = [task.result() for task in tasks]
    # The images overlap: the slowest of each stage is what the call waited for.
    for stage in IMAGE_STAGES:
        context.stages[stage] = max(image.stages[stage] for image in apart)
    return results
