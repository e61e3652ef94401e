"""gRPC's own health checks, which follow the worker's readiness.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from service.web.grpc.streams import OpenStreams
from service.web.pipeline import Pipeline

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

LOOK_SECONDS = 0.25
"""Seconds between two looks at the readiness for those who watch it."""


class ReadinessServicer(HealthServicer):
    """Answers health checks.

    Args:
        pipeline: of the worker.
        services: names that may be asked for; the empty one is the whole server.
        streams: counts those of the worker.
    """

    def __init__(self, pipeline: Pipeline, services: Collection[str], streams: OpenStreams) -> None:
        self._pipeline = pipeline
        self._services = {"", *services}
        self._streams = streams

    async def Check(  # noqa: N802 - the standard's name
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """Say whether requests should be sent here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return self._answer

    async def Watch(  # noqa: N802 - the standard's name
        self, request: HealthCheckRequest, context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """Say the same now, and whenever it changes; the last word of a server is that it ends."""
        said = None
        async with self._streams.entered(context, None):
            if request.service not in self._services:
                yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
                await asyncio.Event().wait()
            while True:
                if self._answer != said:
                    said = self._answer
                    yield said
                await asyncio.sleep(LOOK_SECONDS)
        # The last request may have been answered between two looks.
        if request.service in self._services and said != self._answer:
            yield self._answer

    @property
    def _answer(self) -> HealthCheckResponse:
        ready = self._pipeline.ready
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        )
