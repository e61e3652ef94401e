"""The requests of ``overlock bench``, by the protocols that the service speaks."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal
from urllib.parse import quote

from model.config import Task
from model.remote.extras import install_extra
from service.commands.bench.connection import Endpoint, HttpConnection, RawAnswer
from service.commands.bench.generator import LoadTarget, Payload
from service.commands.bench.infer_messages import answer_start
from service.commands.bench.loads import ImagePayload
from service.commands.console.exits import RefusedError

ProtocolName = Literal["v1", "v2", "grpc"]

MAX_IMAGES = 64
"""Images in one call of the Open Inference Protocol."""

OUTPUTS: Mapping[Task, tuple[str, ...]] = {
    Task.CLASSIFY: ("class_ids", "scores", "labels"),
    Task.SEGMENT: ("label_map", "class_ids", "fractions"),
    Task.DETECT: ("boxes", "scores", "class_ids", "labels", "masks"),
}
"""The tensors that hold what ``/v1`` answers."""


@dataclass(frozen=True)
class RequestSpec:
    """The route of a service, and the request that is sent to it.

    Attributes:
        target: the route.
        payload: the request's body.
        images: in a request.
    """

    target: LoadTarget
    payload: Payload
    images: int = 1

    async def send_once(self, answer_seconds: float) -> RawAnswer:
        """Send the request over a connection of its own.

        Raises:
            OSError: if the service cannot be reached, hangs up, or does not answer in time.
        """
        connection = await self.target.open()
        try:
            request = self.target.request(self.payload.body, self.payload.media_type)
            async with asyncio.timeout(answer_seconds):  # its TimeoutError is an OSError
                return await connection.exchange(request)
        finally:
            await connection.close()


@dataclass(frozen=True)
class WorkOrder:
    """The work that a request asks for, whatever the protocol.

    Attributes:
        task: to perform.
        model: its name.
        file: an image.
        images: in a request; the file is sent so many times.
        timeout_seconds: of a request.
    """

    task: Task
    model: str
    file: bytes
    images: int
    timeout_seconds: float


def v1_requests(service: Endpoint, order: WorkOrder) -> RequestSpec:
    """Return the requests to ``/v1``: an image each.

    Args:
        service: its root.
        order: of each request.
    """
    query = f"timeout={order.timeout_seconds:g}&model={quote(order.model)}"
    path = f"{service.path}/v1/{order.task}?{query}"
    return RequestSpec(replace(service, path=path), ImagePayload(order.file))


def v2_requests(service: Endpoint, order: WorkOrder) -> RequestSpec:
    """Return the requests to the Open Inference Protocol's REST routes.

    Args:
        service: its root.
        order: of each request.
    """
    path = f"{service.path}/v2/models/{quote(order.model)}/infer"
    target = InferEndpoint(
        replace(service, path=path), OUTPUTS[order.task], order.images, order.timeout_seconds
    )
    start = f'{{"model_name":"{order.model}"'.encode()
    payload = ImagePayload(bytes_tensor([order.file] * order.images), answer_start=start)
    return RequestSpec(target, payload, order.images)


def grpc_requests(service: Endpoint, order: WorkOrder, port: int) -> RequestSpec:
    """Return the requests to the Open Inference Protocol's gRPC service.

    Args:
        service: root of its HTTP routes; the gRPC service is on the same host.
        order: of each request.
        port: of the gRPC service.

    Raises:
        RefusedError: if gRPC is not installed.
    """
    if find_spec("grpc") is None:
        raise RefusedError(f"--protocol grpc needs grpcio: {install_extra('grpc')}.")
    # Imported here: the other protocols do without the extra.
    from service.commands.bench.grpc_connection import GrpcEndpoint

    target = GrpcEndpoint(
        host=service.host,
        port=port,
        model=order.model,
        outputs=OUTPUTS[order.task],
        images=order.images,
        timeout_seconds=order.timeout_seconds,
        secure=service.tls is not None,
        metadata={name.lower(): value for name, value in service.headers.items()},
    )
    payload = ImagePayload(
        bytes_tensor([order.file] * order.images), answer_start=answer_start(order.model)
    )
    return RequestSpec(target, payload, order.images)


@dataclass(frozen=True)
class InferEndpoint:
    """A model's ``/v2/models/NAME/infer``, with binary tensors both ways.

    Attributes:
        endpoint: the route.
        outputs: names of the requested tensors.
        images: in a request.
        timeout_seconds: of a request; None for the service's own.
    """

    endpoint: Endpoint
    outputs: tuple[str, ...]
    images: int = 1
    timeout_seconds: float | None = None

    def request(self, body: bytes, media_type: str) -> bytes:
        """Return a complete request with the images of a tensor's bytes."""
        image = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [self.images],
            "parameters": {"binary_data_size": len(body)},
        }
        document: dict[str, object] = {
            "inputs": [image],
            "outputs": [
                {"name": name, "parameters": {"binary_data": True}} for name in self.outputs
            ],
        }
        if self.timeout_seconds is not None:
            document["parameters"] = {"timeout": round(1e6 * self.timeout_seconds)}
        head = json.dumps(document).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        endpoint = replace(self.endpoint, headers={**self.endpoint.headers, **length})
        return endpoint.request(head + body, media_type)

    def __str__(self) -> str:
        return f"http://{self.endpoint.host}:{self.endpoint.port}{self.endpoint.path}"

    async def open(self) -> HttpConnection:
        """Connect to the server.

        Raises:
            OSError: if nothing listens there.
        """
        return await self.endpoint.open()


async def check_answer(spec: RequestSpec, answer_seconds: float) -> None:
    """Send a request once, beside the load.

    Args:
        spec: the request.
        answer_seconds: wait for the answer.

    Raises:
        RefusedError: if the answer is no result, with the service's own sentence.
    """
    try:
        answer = await spec.send_once(answer_seconds)
    except OSError as error:
        raise RefusedError(f"{spec.target} cannot be reached: {error}") from error
    if answer.status != 200:
        raise RefusedError(f"{spec.target} answers {answer.status}: {_sentence(answer.body)}")
    if not spec.payload.is_answered_by(answer.body):
        raise RefusedError(f"{spec.target} answers {answer.body[:300]!r}")


def _sentence(body: bytes) -> str:
    """Return the text of an error's answer: the Open Inference Protocol's, or as it is."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:300].decode(errors="replace")


def bytes_tensor(files: Sequence[bytes]) -> bytes:
    """Return files as the elements of a BYTES tensor: each after its length."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)
