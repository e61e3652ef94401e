"""The application over gRPC in the event loop of a test, and calls of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from fastapi import FastAPI
from google.protobuf.message import Message

from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.server import SERVICE, GrpcServer


class GrpcClient:
    """Calls the service's methods.

    Args:
        channel: to the server.

    Attributes:
        trailers: what came behind the last answer or failure.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.trailers: dict[str, str | bytes] = {}

    def start(self, request: Message, name: str | None = None, **options: Any) -> Any:
        """Begin a call of the method whose request it is."""
        name = name or request.DESCRIPTOR.name.removesuffix("Request")
        answer = getattr(messages, f"{name}Response")
        method = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return method(request, **options)

    async def call(self, request: Message, **options: Any) -> Any:
        """Call the method whose request it is, and return its answer."""
        call = self.start(request, **options)
        try:
            return await call
        finally:
            self.trailers = dict(await call.trailing_metadata())

    async def failure(self, request: Message, **options: Any) -> tuple[grpc.StatusCode, str]:
        """Return the status and the details of a call that has to fail."""
        try:
            answer = await self.call(request, **options)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"answered with {answer}")


@asynccontextmanager
async def grpc_client(app: FastAPI, settings: Settings) -> AsyncIterator[GrpcClient]:
    """Serve an application and connect to it."""
    server = GrpcServer(app, settings)
    port = await server.start("127.0.0.1:0")
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield GrpcClient(channel)
    finally:
        await server.stop()


def infer_request(
    *images: bytes, model: str = "demo", raw: bool = True, **parameters: Any
) -> messages.ModelInferRequest:
    """Return a call for encoded images.

    Args:
        images: encoded.
        model: the model's name.
        raw: whether they are raw contents, or typed ones.
        parameters: of the call.
    """
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(images)]
    )
    request = messages.ModelInferRequest(model_name=model, id="mine", inputs=[tensor])
    if raw:
        joined = b"".join(len(each).to_bytes(4, "little") + each for each in images)
        request.raw_input_contents.append(joined)
    else:
        request.inputs[0].contents.bytes_contents.extend(images)
    for name, value in parameters.items():
        set_parameter(request.parameters, name, value)
    return request


def set_parameter(
    parameters: Mapping[str, messages.InferParameter], name: str, value: bool | int | float | str
) -> None:
    """Set a parameter, of the type that its value has."""
    choices = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    setattr(parameters[name], choices[type(value)], value)
