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
        stopping: set when the server ends, and with it those who watch.
    """

    def __init__(
        self, pipeline: Pipeline, services: Collection[str], stopping: asyncio.Event
    ) -> None:
        self._pipeline = pipeline
        self._services = {"", *services}
        self._stopping = stopping

    async def Check(  # noqa: N802 - the standard's name
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """Say whether requests should be sent here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return self._answer

    async def Watch(  # noqa: N802 - the standard's name
        self, request: HealthCheckRequest, _: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """Say the same now, and whenever it changes, until the server ends."""
        if request.service not in self._services:
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            await self._stopping.wait()
            return
        said = None
        while not self._stopping.is_set():
            if self._answer != said:
                said = self._answer
                yield said
            try:
                await asyncio.wait_for(self._stopping.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    @property
    def _answer(self) -> HealthCheckResponse:
        ready = self._pipeline.ready
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        )
