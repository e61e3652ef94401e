"""Probes and metrics; none of them waits for an engine."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from service import metrics
from service.api.errors import NotReadyError
from service.web.http.openapi import problems
from service.web.pipeline import PipelineDep

router = APIRouter()


@router.get("/livez", summary="Liveness probe", tags=["operations"])
async def live() -> dict[str, str]:
    """Answer 200 while the event loop runs, however full the queue is."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Readiness probe",
    tags=["operations"],
    responses=problems(503),
)
async def ready(pipeline: PipelineDep) -> dict[str, str]:
    """Answer 200 while an engine is ready and the service is not draining."""
    if pipeline.ready:
        return {"status": "ready"}
    reason = "The service is draining." if pipeline.draining.begun else "No engine is ready."
    raise NotReadyError(reason, retry_after_seconds=1.0)


@router.get(
    "/metrics",
    name="metrics",
    summary="Metrics for Prometheus",
    tags=["operations"],
    response_class=PlainTextResponse,
)
async def prometheus() -> Response:
    """Return the metrics of all processes."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
