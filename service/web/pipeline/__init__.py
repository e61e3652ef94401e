"""The path of a request through an HTTP worker, whatever protocol it came by."""

from service.web.pipeline.pipeline import Pipeline, PipelineDep
from service.web.pipeline.request_context import RequestContext, unless_client_leaves
from service.web.pipeline.several_images import infer_images
from service.web.pipeline.tiles import infer_tiles, respond_in_tiles

__all__ = [
    "Pipeline",
    "PipelineDep",
    "RequestContext",
    "infer_images",
    "infer_tiles",
    "respond_in_tiles",
    "unless_client_leaves",
]
