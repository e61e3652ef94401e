"""Triton's client in one of its four forms, and what it got from the service, as JSON.

``triton.py http|http.aio|grpc|grpc.aio HOST:PORT FOLDER``; FOLDER has ``*.png`` and ``pixels.npy``.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "demo"
NAMES = ("class_ids", "scores", "labels")

KIND, ADDRESS, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
FILES = [path.read_bytes() for path in sorted(FOLDER.glob("*.png"))]
PIXELS = np.load(FOLDER / "pixels.npy")
IS_HTTP = KIND.startswith("http")
AS_DICT = {} if IS_HTTP else {"as_json": True}

triton = importlib.import_module(f"tritonclient.{KIND}")
utils = importlib.import_module("tritonclient.utils")


async def value_of(found: Any) -> Any:
    """Return a value, or what a coroutine returns."""
    return await found if inspect.isawaitable(found) else found


async def error_of(call: Callable[[], Any]) -> str:
    """Return the message of the exception that a call ends with."""
    try:
        await value_of(call())
    except utils.InferenceServerException as error:
        return str(error.message())
    raise AssertionError("the call succeeded")


def tensor(values: Any, datatype: str, **how: bool) -> Any:
    """Return the model's input with these values."""
    made = triton.InferInput("image", list(values.shape), datatype)
    made.set_data_from_numpy(values, **how)
    return made


def outputs(*names: str, **how: bool) -> list[Any]:
    """Return outputs to be asked for."""
    return [triton.InferRequestedOutput(name, **how) for name in names]


def listed(result: Any, *names: str) -> dict[str, Any]:
    """Return the values of an answer's outputs; elements of BYTES as text."""
    return {name: texts(result.as_numpy(name).tolist()) for name in names}


def texts(values: Any) -> Any:
    """Decode all bytes in a nested list."""
    if isinstance(values, list):
        return [texts(each) for each in values]
    return values.decode() if isinstance(values, bytes) else values


async def main() -> dict[str, Any]:
    """Do all that the client can do here."""
    client = triton.InferenceServerClient(ADDRESS)
    encoded = tensor(np.array(FILES, np.object_), "BYTES")

    async def get(method: str, *arguments: str) -> Any:
        return await value_of(getattr(client, method)(*arguments, **AS_DICT))

    async def infer(image: Any, **how: Any) -> Any:
        return await value_of(client.infer(MODEL, [image], **how))

    async def failing(image: Any, model: str = MODEL, **how: Any) -> str:
        return await error_of(lambda: client.infer(model, [image], **how))

    before = await get("get_inference_statistics", MODEL)
    one = tensor(np.array(FILES[:1], np.object_), "BYTES")
    broken = tensor(np.array([FILES[0], FILES[1][:-300]], np.object_), "BYTES")
    answers = {
        "files": await infer(encoded),
        "pixels": await infer(tensor(PIXELS, "UINT8"), outputs=outputs(*NAMES)),
    }
    if IS_HTTP:
        in_text = np.array([base64.b64encode(file).decode() for file in FILES], np.object_)
        as_json = outputs(*NAMES, binary_data=False)
        answers |= {
            "json": await infer(tensor(in_text, "BYTES", binary_data=False), outputs=as_json),
            "json_pixels": await infer(tensor(PIXELS, "UINT8", binary_data=False)),
            "deflate": await infer(
                encoded,
                request_compression_algorithm="deflate",
                response_compression_algorithm="gzip",
            ),
            "gzip": await infer(encoded, request_compression_algorithm="gzip"),
        }
    else:
        answers["gzip"] = await infer(encoded, compression_algorithm="gzip")
    other_names = ("logits", "embedding")
    found = {
        "live": await value_of(client.is_server_live()),
        "ready": await value_of(client.is_server_ready()),
        "model_ready": await value_of(client.is_model_ready(MODEL)),
        "server": await get("get_server_metadata"),
        "model": await get("get_model_metadata", MODEL),
        "config": await get("get_model_config", MODEL),
        "index": await get("get_model_repository_index"),
        "answers": {how: listed(answer, *NAMES) for how, answer in answers.items()},
        "others": listed(await infer(encoded, outputs=outputs(*other_names)), *other_names),
        "id": (await infer(one, request_id="seven")).get_response(**AS_DICT)["id"],
        "top_1": listed(await infer(one, parameters={"top_k": 1}), *NAMES),
        "errors": {
            "model": await failing(one, "no-model"),
            "image": await failing(broken),
            "output": await failing(one, outputs=outputs("mask")),
            "parameter": await failing(one, parameters={"top_k": 0}),
            "timeout": await failing(one, timeout=1),
        },
        "statistics": [before, await get("get_inference_statistics", MODEL)],
    }
    await value_of(client.close())
    return found


print(json.dumps(asyncio.run(main())))
