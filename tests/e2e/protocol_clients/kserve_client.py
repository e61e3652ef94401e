"""KServe's clients for REST and gRPC, and what they got from the service, as JSON.

``kserve_client.py URL GRPC_ADDRESS FOLDER``; FOLDER has ``*.png`` and ``pixels.npy``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput

MODEL = "demo"

URL, GRPC_ADDRESS, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
FILES = [path.read_bytes() for path in sorted(FOLDER.glob("*.png"))]
PIXELS = np.load(FOLDER / "pixels.npy")
ENCODED = np.array(FILES, np.object_)
BROKEN = np.array([FILES[0], FILES[1][:-300]], np.object_)


def request(values: Any, datatype: str, *, binary: bool = True, **how: Any) -> InferRequest:
    """Return a request for the model."""
    image = InferInput("image", list(values.shape), datatype)
    image.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(MODEL, [image], **how)


def listed(answer: Any) -> dict[str, Any]:
    """Return the values of an answer's outputs; elements of BYTES as text."""
    return {each.name: texts(each.as_numpy().tolist()) for each in answer.outputs}


def texts(values: Any) -> Any:
    """Decode all bytes in a nested list."""
    if isinstance(values, list):
        return [texts(each) for each in values]
    return values.decode() if isinstance(values, bytes) else values


async def error_of(call: Awaitable[Any]) -> str:
    """Return the message of the exception that a call ends with."""
    try:
        await call
    except httpx.HTTPStatusError as error:
        return str(error)
    except grpc.aio.AioRpcError as error:
        return str(error.details())
    raise AssertionError("the call succeeded")


async def by_rest() -> dict[str, Any]:
    """Do all that the client for REST can do here."""
    in_text = np.array([base64.b64encode(file).decode() for file in FILES], np.object_)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(data: InferRequest) -> Any:
            return await client.infer(URL, data, model_name=MODEL)

        binary_outputs = [
            RequestedOutput(name, {"binary_data": True})
            for name in ("class_ids", "scores", "labels")
        ]
        return {
            "live": await client.is_server_live(URL),
            "ready": await client.is_server_ready(URL),
            "model_ready": await client.is_model_ready(URL, MODEL),
            "other_model_ready": await client.is_model_ready(URL, "no-model"),
            "answers": {
                "files": listed(await infer(request(ENCODED, "BYTES"))),
                "pixels": listed(await infer(request(PIXELS, "UINT8"))),
                "json": listed(await infer(request(in_text, "BYTES", binary=False))),
                "json_pixels": listed(await infer(request(PIXELS, "UINT8", binary=False))),
                "binary": listed(
                    await infer(request(ENCODED, "BYTES", request_outputs=binary_outputs))
                ),
            },
            "errors": {
                "model": await error_of(client.infer(URL, {"inputs": []}, model_name="no-model")),
                "image": await error_of(infer(request(BROKEN, "BYTES"))),
                "parameter": await error_of(
                    infer(request(ENCODED, "BYTES", parameters={"top_k": 0}))
                ),
            },
        }


async def by_grpc() -> dict[str, Any]:
    """Do all that the client for gRPC can do here."""
    async with InferenceGRPCClient(GRPC_ADDRESS) as client:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(MODEL),
            "answers": {
                "files": listed(await client.infer(request(ENCODED, "BYTES"))),
                "pixels": listed(await client.infer(request(PIXELS, "UINT8"))),
            },
            "errors": {"image": await error_of(client.infer(request(BROKEN, "BYTES")))},
        }


async def main() -> dict[str, Any]:
    """Try both clients."""
    return {"rest": await by_rest(), "grpc": await by_grpc()}


print(json.dumps(asyncio.run(main())))
