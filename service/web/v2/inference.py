"""A call for inference from its arrival to its output tensors, whatever the transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from model.config import Task
from service.answers.inference import EngineResult
from service.answers.tensors import Answers, OutputTensor
from service.api.errors import DeadlineExceededError, UnknownModelError
from service.link.messages import ModelInfo
from service.link.pool import OfferedModel
from service.web.pipeline import Pipeline, RequestContext, infer_images, infer_tiles
from service.web.v2.calls import CallImage, InferenceCall, images_of
from service.web.v2.orders import Order, order_of

VERSION_DIGITS = 12
"""Digits of the weights' digest that are the model's version."""

RANDOM_VERSION = "0"
"""Version of random weights."""

IMAGES_AT_ONCE = 4
"""Most images whose class ids and scores are rendered without a thread."""

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class InferenceAnswer:
    """The answer to a call.

    Attributes:
        model: that answered.
        id: the call's.
        outputs: in the order in which they were asked for.
    """

    model: ModelInfo
    id: str
    outputs: list[OutputTensor]


def version_of(model: ModelInfo) -> str:
    """Return a model's version: the first digits of its weights' digest."""
    return (model.weights_sha256 or RANDOM_VERSION)[:VERSION_DIGITS]


def version_number_of(model: ModelInfo) -> str:
    """Return a model's version as statistics state it: the same digits as a decimal number.

    perf_analyzer reads the versions in statistics as numbers, and ends with an exception or finds
    no statistics if they are none.
    """
    return str(int(version_of(model), 16))


def check_version(model: ModelInfo, version: str | None) -> None:
    """Check the version that a caller names, if it names one, in either form.

    Raises:
        UnknownModelError: if the model has another one.
    """
    if version and version not in {version_of(model), version_number_of(model)}:
        raise UnknownModelError(
            f"There is no version {version[:64]!r} of {model.name}; there is {version_of(model)}."
        )


@contextmanager
def model_of(pipeline: Pipeline, name: str, version: str | None) -> Iterator[OfferedModel]:
    """Find the model that a call names; its engines do not end while the block runs.

    Raises:
        NotReadyError: while no engine has said what it serves.
        UnknownModelError: if there is no model of that name, or not this version of it.
    """
    with pipeline.model_named(name) as model:
        check_version(model.info, version)
        yield model


async def infer(
    pipeline: Pipeline,
    context: RequestContext,
    call: InferenceCall,
    render: Callable[[InferenceAnswer], AnswerT],
    *,
    longest_seconds: float | None = None,
) -> AnswerT:
    """Answer a call that was admitted and has arrived.

    Args:
        pipeline: of the worker.
        context: the admitted call, for the model that it names.
        call: as it was parsed.
        render: makes the transport's answer.
        longest_seconds: timeout by the transport, if it has one.

    Raises:
        ServiceError: if the call, an image of it, or any stage is rejected.
    """
    order = order_of(context.model.info, call.parameters, call.outputs)
    images = images_of(call, pipeline.preparer)
    order.check_images(len(images), context.model.info)
    context = _timed(pipeline, context, order, longest_seconds)
    found = await _found(pipeline, context, images, order)
    return await pipeline.finished(
        context,
        lambda: render(_answer(context.model.info, call, order, found())),
        at_once=context.model.question.task is Task.CLASSIFY and len(images) <= IMAGES_AT_ONCE,
    )


async def _found(
    pipeline: Pipeline, context: RequestContext, images: Sequence[CallImage], order: Order
) -> Callable[[], list[tuple[EngineResult, ...]]]:
    """Have engines answer; return what makes the results: those of tiles have to be merged."""
    query = order.tiled
    if query is not None:
        merge = await infer_tiles(pipeline, context, partial(images[0].in_tiles, query), query)
        return lambda: [(merge(),)]
    prepare = [image.prepared for image in images]
    results = await infer_images(pipeline, context, prepare, order.questions, name="image")
    return lambda: results


def _timed(
    pipeline: Pipeline, context: RequestContext, order: Order, longest_seconds: float | None
) -> RequestContext:
    """Give a call its own timeout, counted from its arrival, and judge the deadline anew."""
    settings = pipeline.settings
    default = order.timeout_seconds or settings.default_timeout_seconds
    if order.timeout_seconds is None and longest_seconds is not None:
        default = longest_seconds
    seconds = min(default, longest_seconds or default, settings.max_timeout_seconds)
    context = context.with_timeout(seconds)
    left_seconds = context.deadline - time.monotonic()
    if left_seconds <= 0:
        raise DeadlineExceededError(timeout_seconds=seconds)
    for question in order.questions:
        pipeline.reject_unreachable_deadline(context.model.asked(question), left_seconds)
    return context


def _answer(
    model: ModelInfo, call: InferenceCall, order: Order, results: list[tuple[EngineResult, ...]]
) -> InferenceAnswer:
    by_task = dict(
        zip(
            (question.task for question in order.questions), zip(*results, strict=True), strict=True
        )
    )
    answers = Answers(
        by_task.get(model.task, ()),
        by_task.get(Task.EMBED, ()),
        order.query,
        order.embed_query,
    )
    return InferenceAnswer(model, call.id, answers.tensors(order.outputs))
