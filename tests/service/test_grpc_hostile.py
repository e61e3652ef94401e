"""Damaged and absurd calls by gRPC: none is a failure of the service, and nothing stays held."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import grpc
import numpy as np
from fastapi import FastAPI

from service.web.grpc import open_inference_pb2 as messages
from service.web.pipeline import Pipeline
from support.api_requests import photo
from support.grpc_calls import GrpcClient, infer_request, pixel_request

CALLERS_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # a timeout parameter of next to nothing
}
NUMBERS = [-(2**63), -1, 0, 1, 3, 255, 256, 65_536, 2**31, 2**63 - 1]
TEXTS = ["", "image", "BYTES", "UINT8", "demo", "\0", "\N{SNOWMAN}" * 99, "x" * 5000]


def damaged(chance: random.Random) -> Iterator[bytes]:
    """Yield calls with a few of their bytes changed, for ever."""
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    whole = [
        infer_request(photo(30, 20), top_k=3, timeout=10**9),
        infer_request(photo(30, 20), raw=False, logits=True),
        pixel_request(pixels),
        pixel_request(pixels, raw=False),
    ]
    while True:
        body = bytearray(chance.choice(whole).SerializeToString())
        for _ in range(chance.choice([1, 1, 2, 5])):
            place = chance.randrange(min(len(body), chance.choice([20, 60, len(body)])))
            match chance.choice(["flip", "set", "cut", "insert"]):
                case "flip":
                    body[place] ^= 1 << chance.randrange(8)
                case "set":
                    body[place] = chance.choice([0, 1, 127, 128, 255])
                case "cut":
                    del body[place : place + chance.randrange(1, 9)]
                case "insert":
                    body[place:place] = chance.randbytes(chance.randrange(1, 9))
        yield bytes(body)


def absurd(chance: random.Random) -> Iterator[bytes]:
    """Yield calls of right bytes that say nonsense, for ever."""
    while True:
        request = pixel_request(np.zeros((1, 4, 4, 3), np.uint8), raw=chance.random() < 0.5)
        tensor = request.inputs[0]
        for _ in range(chance.choice([1, 1, 2])):
            match chance.choice(["shape", "texts", "values", "parameter", "inputs", "outputs"]):
                case "shape":
                    tensor.shape[:] = chance.choices(NUMBERS, k=chance.randrange(6))
                case "texts":
                    of = chance.choice(
                        [(request, "model_name"), (tensor, "name"), (tensor, "datatype")]
                    )
                    setattr(*of, chance.choice(TEXTS))
                case "values":
                    request.raw_input_contents[:] = [chance.randbytes(chance.randrange(60))]
                    tensor.contents.int64_contents.append(chance.choice(NUMBERS))
                case "parameter":
                    name = chance.choice(["timeout", "top_k", "logits", "layer", "normalize", ""])
                    request.parameters[name].int64_param = chance.choice(NUMBERS)
                case "inputs":
                    request.inputs.add(name=chance.choice(TEXTS))
                case "outputs":
                    request.outputs.add(name=chance.choice([*TEXTS, "scores", "embedding"]))
        yield request.SerializeToString()


async def test_no_call_is_a_failure_of_the_service(app: FastAPI, grpc_calls: GrpcClient) -> None:
    chance = random.Random(22)
    kinds = damaged(chance), absurd(chance)
    seen = set()

    async def send(body: bytes) -> None:
        code = grpc.StatusCode.OK
        try:
            await grpc_calls.start(body, name="ModelInfer")
        except grpc.aio.AioRpcError as error:
            code = error.code()
        assert code in CALLERS_FAULT, body
        seen.add(code)

    for _ in range(100):
        await asyncio.gather(*(send(next(kind)) for kind in kinds for _ in range(4)))
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= seen
    pipeline: Pipeline = app.state.pipeline
    assert pipeline.limiter.held_bytes == 0
    assert not any(pipeline.limiter.taken.values())
    assert (await grpc_calls.call(messages.ServerReadyRequest())).ready
