"""Several images in one call: each is a request of its own to the scheduler, the answer is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from service.answers.inference import EngineResult
from service.api.errors import ServiceError
from service.images.preparation import PreparedImage
from service.link.messages import ModelInfo, Question
from service.web.pipeline.pipeline import IMAGE_STAGES, Pipeline
from service.web.pipeline.request_context import RequestContext
from service.web.tracebacks import release

OF_THE_LOAD = {429, 503, 504}
"""Statuses of errors that no image of a request caused."""

AnswerT = TypeVar("AnswerT")

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
    models = [context.model.asked(question) for question in questions]
    context.permit.widen([model.operation for model in models for _ in images])
    alone = len(images) == len(models) == 1
    apart = [context if alone else replace(context, stages=dict(context.stages)) for _ in images]

    async def answered(place: int) -> tuple[EngineResult, ...]:
        one = apart[place]
        try:
            prepared = await pipeline.prepared(one, images[place])
            asked = [one if model is one.model else replace(one, model=model) for model in models]
            return tuple([await pipeline.ask(each, prepared) for each in asked])
        except ServiceError as error:
            if error.status not in OF_THE_LOAD:
                error.detail = f"{name}[{place}]: {error.detail}"
            raise

    return await answers_of(context, apart, [answered(place) for place in range(len(images))])


async def answers_of(
    context: RequestContext,
    apart: Sequence[RequestContext],
    answers: Sequence[Coroutine[Any, Any, AnswerT]],
) -> list[AnswerT]:
    """Await the parts of a call, all at once; the first error cancels the others.

    Args:
        context: of the call; gets the stages.
        apart: of its parts.
        answers: of its parts, at least one.
    """
    if len(answers) == 1:
        results = [await answers[0]]
    else:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer) for answer in answers]
        except ExceptionGroup as failures:
            if isinstance(failures.exceptions[0], ServiceError):  # the log shows others' frames
                release(failures)
            raise failures.exceptions[0] from None
        except asyncio.CancelledError as cancelled:
            release(cancelled)
            raise
        results = [task.result() for task in tasks]
    # The parts overlap: the slowest of each stage is what the call waited for.
    for stage in IMAGE_STAGES:
        context.stages[stage] = max(part.stages[stage] for part in apart)
    return results
