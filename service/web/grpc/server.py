"""The gRPC server of an HTTP worker, which shares its pipeline, keys, counts and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from service.settings import PREFIX, SettingsError
from service.web.grpc.health import ReadinessServicer
from service.web.grpc.methods import InferenceService
from service.web.grpc.open_inference_pb2 import DESCRIPTOR
from service.web.grpc.receiving import MessageReceiver
from service.web.grpc.reflection import HEALTH, BoundedReflectionServicer
from service.web.grpc.streams import OpenStreams
from service.web.grpc.unary import UnaryFrame

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.settings import Settings
    from service.web.pipeline import Pipeline

SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

MAX_CONNECTIONS = 1024
"""Most connections of a worker."""

MAX_CALLS = 1024
"""Most calls of a worker at a time; another one is RESOURCE_EXHAUSTED at once."""

WINDOW_BYTES = 256 * 1024
"""Most bytes of a message that a client may send before it is received. Left to itself gRPC makes
them eight million, in measuring what the network can carry."""

HANDSHAKE_SECONDS = 10.0
"""Seconds from a connection's beginning to its first frame of HTTP/2."""

PING_SECONDS, PONG_SECONDS = 30.0, 20.0
"""Seconds after which a client that has sent nothing is asked for a sign of life, and in which it
has to give it; one that has vanished, or is suspended, holds its calls and answers no longer."""

STOP_SECONDS = 10.0
"""Seconds in which answers that are made are sent."""


class GrpcServer:
    """The server of one worker.

    Args:
        app: the worker's, with its pipeline, keys and tasks.
        settings: of the service.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        pipeline: Pipeline = app.state.pipeline
        self._streams = OpenStreams()
        self._server = grpc.aio.server(
            options=_options(settings), maximum_concurrent_rpcs=MAX_CALLS
        )
        frame = UnaryFrame(
            SERVICE,
            MessageReceiver(max(settings.max_queue_bytes // settings.max_body_bytes, 1)),
            app.state.under_way,
            getattr(app.state, "api_keys", None),
            max_message_bytes=settings.max_body_bytes,
            receive_seconds=settings.default_timeout_seconds,
        )
        service = InferenceService(pipeline, app.state.control)
        handlers = {each.name: frame.handler(each) for each in service.methods}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        health = ReadinessServicer(pipeline, {SERVICE, HEALTH}, self._streams)
        add_HealthServicer_to_server(health, self._server)
        reflection = BoundedReflectionServicer(SERVICE, self._streams)
        add_ServerReflectionServicer_to_server(reflection, self._server)  # type: ignore[no-untyped-call]

    async def start(self, address: str) -> int:
        """Listen; return the port.

        Args:
            address: host and port; workers may share them.

        Raises:
            SettingsError: if it cannot be bound.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise SettingsError(f"{PREFIX}GRPC_PORT: cannot listen on {address}.") from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Take no more calls, and end when those under way are answered."""
        self._streams.end()
        await self._server.stop(STOP_SECONDS)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        # Of a compressed message too: gRPC stops to inflate it there.
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_connection_idle_ms", round(settings.keep_alive_seconds * 1000)),
        ("grpc.keepalive_time_ms", round(PING_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", round(PONG_SECONDS * 1000)),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_SECONDS * 1000)),
    ]
