"""A large image in tiles: each pass over it is a request of its own to the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from service.answers.inference import EngineResult
from service.answers.tiles import merged, question_of_passes
from service.api.queries import DetectQuery, SegmentQuery
from service.images.preparation import TiledImage
from service.link.messages import ModelInfo
from service.link.pool import OfferedModel
from service.web.pipeline.pipeline import Pipeline
from service.web.pipeline.request_context import RequestContext, unless_client_leaves
from service.web.pipeline.several_images import answers_of


async def respond_in_tiles(
    pipeline: Pipeline,
    request: Request,
    model: OfferedModel,
    query: SegmentQuery | DetectQuery,
    render: Callable[[EngineResult], Response],
) -> Response:
    """Admit a request, read its body and answer it from the passes over its image.

    Each pass takes a place, is batched, expires and is cancelled as a request of its own; the
    first error is the call's.

    Args:
        pipeline: of the worker.
        request: its body has not been read yet.
        model: returned by ``Pipeline.model_for``.
        query: with a tile.
        render: makes the response of the merged result, in a thread.

    Raises:
        ServiceError: if any stage rejects the request.
        ClientDisconnect: if the client left; work on its request is cancelled.
    """
    async with pipeline.received(request, model, query.timeout) as context:
        return await unless_client_leaves(request, _run(pipeline, context, query, render))


async def _run(
    pipeline: Pipeline,
    context: RequestContext,
    query: SegmentQuery | DetectQuery,
    render: Callable[[EngineResult], Response],
) -> Response:
    context = await pipeline.inflated(context)
    prepare = partial(pipeline.preparer.prepare_tiles, context.body, context.content_type, query)
    merge = await infer_tiles(pipeline, context, prepare, query)
    return await pipeline.rendered(context, lambda: render(merge()), renders_at_once=False)


async def infer_tiles(
    pipeline: Pipeline,
    context: RequestContext,
    prepare: Callable[[ModelInfo], TiledImage],
    query: SegmentQuery | DetectQuery,
) -> Callable[[], EngineResult]:
    """Have engines answer for each pass over an image, all at once.

    Args:
        pipeline: of the worker.
        context: of the call, with its model.
        prepare: decodes the image, for a model, in a thread.
        query: with a tile.

    Returns:
        What merges the passes' results, which takes a thread.

    Raises:
        ServiceError: if the image or a pass is rejected; the other passes are cancelled.
    """
    image = await pipeline.prepared(context, prepare)
    question = question_of_passes(context.model.info, len(image.passes))
    model = replace(context.model, question=question)
    context.permit.widen([model.operation for _ in image.passes])
    apart = [replace(context, model=model, stages=dict(context.stages)) for _ in image.passes]
    results = await answers_of(
        context,
        apart,
        [pipeline.ask(one, each) for one, each in zip(apart, image.passes, strict=True)],
    )
    return lambda: merged(results, image.grid, query)
