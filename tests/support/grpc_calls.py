"""The application over gRPC in the event loop of a test, and calls of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from fastapi import FastAPI
from google.protobuf.message import Message
from numpy.typing import NDArray

from service.answers.tensors import DTYPES
from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.server import SERVICE, GrpcServer
from service.web.v2.calls import split_elements


class GrpcClient:
    """Calls the service's methods.

    Args:
        channel: to the server.
        port: the server's.

    Attributes:
        trailers: what came behind the last answer or failure.
    """

    def __init__(self, channel: grpc.aio.Channel, port: int = 0) -> None:
        self.channel = channel
        self.port = port
        self.trailers: dict[str, str | bytes] = {}

    def start(self, request: Message | bytes, name: str | None = None, **options: Any) -> Any:
        """Begin a call of the method whose request it is, or of another one."""
        name = name or type(request).__name__.removesuffix("Request")
        answer = getattr(messages, f"{name}Response", messages.ModelInferResponse)
        method: Any = self.channel.unary_unary(
            f"/{SERVICE}/{name}", response_deserializer=answer.FromString
        )
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return method(body, **options)

    async def call(self, request: Message | bytes, **options: Any) -> Any:
        """Call the method whose request it is, and return its answer."""
        call = self.start(request, **options)
        try:
            return await call
        finally:
            self.trailers = dict(await call.trailing_metadata())

    async def failure(
        self, request: Message | bytes, **options: Any
    ) -> tuple[grpc.StatusCode, str]:
        """Return the status and the details of a call that has to fail."""
        try:
            answer = await self.call(request, **options)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"answered with {answer}")


@asynccontextmanager
async def grpc_client(
    app: FastAPI, settings: Settings, *options: tuple[str, int]
) -> AsyncIterator[GrpcClient]:
    """Serve an application and connect to it; the options are the client's."""
    server = GrpcServer(app, settings)
    port = await server.start("127.0.0.1:0")
    unlimited = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", unlimited + options) as channel:
            yield GrpcClient(channel, port)
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


def pixel_request(pixels: NDArray[np.uint8], *, raw: bool = True) -> messages.ModelInferRequest:
    """Return a call for decoded images, (N, H, W, 3)."""
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="image", datatype="UINT8", shape=pixels.shape
    )
    request = messages.ModelInferRequest(model_name="demo", id="mine", inputs=[tensor])
    if raw:
        request.raw_input_contents.append(pixels.tobytes())
    else:
        request.inputs[0].contents.uint_contents.extend(pixels.reshape(-1).tolist())
    return request


def tensors_of(answer: messages.ModelInferResponse) -> dict[str, Any]:
    """Return an answer's tensors by name: flat arrays, and lists of bytes."""
    found: dict[str, Any] = {}
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            found[output.name] = split_elements(memoryview(raw), output.name)
        else:
            found[output.name] = np.frombuffer(raw, DTYPES[output.datatype])
    return found


def set_parameter(
    parameters: Mapping[str, messages.InferParameter], name: str, value: bool | int | float | str
) -> None:
    """Set a parameter, of the type that its value has."""
    choices = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    setattr(parameters[name], choices[type(value)], value)
