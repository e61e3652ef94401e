"""A gRPC channel that carries one inference call at a time, as bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from service.commands.bench.connection import RawAnswer
from service.commands.bench.infer_messages import encode_request

METHOD = "/inference.GRPCInferenceService/ModelInfer"

OPTIONS = (
    # Channels of one process otherwise share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)

STATUS_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""HTTP's statuses for gRPC's; 500 for the others."""


@dataclass(frozen=True)
class GrpcEndpoint:
    """A model of a server of the Open Inference Protocol.

    Attributes:
        host: its name or address.
        port: its port for gRPC.
        model: its name.
        outputs: names of the requested tensors.
        images: in a call.
        timeout_seconds: of a call.
        secure: whether the server speaks TLS.
        metadata: of every call.
    """

    host: str
    port: int
    model: str
    outputs: tuple[str, ...]
    images: int = 1
    timeout_seconds: float | None = None
    secure: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def request(self, body: bytes, media_type: str) -> bytes:
        """Return a message with the images of a tensor's bytes."""
        return encode_request(self.model, "image", "BYTES", [self.images], body, self.outputs)

    def __str__(self) -> str:
        return f"gRPC at {self.host}:{self.port} (OVERLOCK_GRPC_PORT of the service)"

    async def open(self) -> GrpcConnection:
        """Return a channel; it connects with its first call."""
        return GrpcConnection(self)


class GrpcConnection:
    """Makes one call at a time; ``reusable`` says whether another may follow."""

    def __init__(self, endpoint: GrpcEndpoint) -> None:
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        address = f"{host}:{endpoint.port}"
        if endpoint.secure:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.aio.secure_channel(address, credentials, OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address, OPTIONS)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            METHOD
        )
        self._metadata = tuple(endpoint.metadata.items())
        self._timeout_seconds = endpoint.timeout_seconds
        self.idle = True
        self.reusable = True

    async def exchange(self, request: bytes) -> RawAnswer:
        """Make a call and return its answer; that of a failed call is the server's sentence.

        Raises:
            ConnectionError: if the server cannot be reached or hangs up.
        """
        self.idle = False
        try:
            body = await self._call(request, timeout=self._timeout_seconds, metadata=self._metadata)
            status = 200
        except grpc.aio.AioRpcError as error:
            status, body = STATUS_OF.get(error.code(), 500), (error.details() or "").encode()
            if status == 503 and self._channel.get_state() is not grpc.ChannelConnectivity.READY:
                self.reusable = False
                raise ConnectionError(error.details()) from error
        self.idle = True
        return RawAnswer(status, body, time.perf_counter())

    async def close(self) -> None:
        """Close the channel, and end its call."""
        self.reusable = False
        await self._channel.close()
