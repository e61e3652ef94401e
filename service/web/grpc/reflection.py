"""Reflection: the services describe themselves, as ``/openapi.json`` describes HTTP's.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from service.web.grpc.open_inference_pb2 import DESCRIPTOR
from service.web.grpc.streams import OpenStreams

REFLECTION_SECONDS = 60.0
"""Longest stream of questions."""

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name


class BoundedReflectionServicer(aio.ReflectionServicer):
    """Answers questions about the services.

    Args:
        service: the standard's, by its full name.
        streams: counts those of the worker.
    """

    def __init__(self, service: str, streams: OpenStreams) -> None:
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            DESCRIPTOR.pool.AddSerializedFile(file.serialized_pb)
        super().__init__((service, HEALTH, REFLECTION), pool=DESCRIPTOR.pool)
        self._streams = streams

    async def ServerReflectionInfo(  # type: ignore[override]  # noqa: N802 - the standard's name
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Any
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer a client's questions until it has no more."""
        # The stubs do not know that it is a generator.
        answers: Any = super().ServerReflectionInfo(requests, context)
        async with self._streams.entered(context, REFLECTION_SECONDS):
            async for answer in answers:
                yield answer
