"""The path of a request through an HTTP worker, whatever protocol it came by."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.web.pipeline.pipeline import Pipeline
from service.web.pipeline.request_context import RequestContext
from service.web.pipeline.several_images import Image, infer_images
from service.web.pipeline.tiles import respond_in_tiles

__all__ = ["Image", "Pipeline", "PipelineDep", "RequestContext", "infer_images", "respond_in_tiles"]


async def _pipeline(request: Request) -> Pipeline:
    # Async, or FastAPI would call it in a thread for every request.
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


PipelineDep = Annotated[Pipeline, Depends(_pipeline)]
