"""Calls of the Open Inference Protocol, as JSON and with binary tensors."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import httpx

HEADER_LENGTH = "Inference-Header-Content-Length"


def image_input(*files: bytes, **fields: Any) -> dict[str, Any]:
    """Return an input of encoded images, in JSON."""
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data} | fields


def document(*files: bytes, outputs: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """Return a call in JSON."""
    asked = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    return {"inputs": [image_input(*files)], **asked, **fields}


def elements(*files: bytes) -> bytes:
    """Return a binary BYTES tensor."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def binary_call(document: dict[str, Any], tensors: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body with tensors behind its JSON, and its headers."""
    text = json.dumps(document).encode()
    return text + tensors, {HEADER_LENGTH: str(len(text))}


def binary_images(
    *files: bytes, binary: bool = True, **fields: Any
) -> tuple[bytes, dict[str, str]]:
    """Return a call whose images, and whose outputs if ``binary``, are binary."""
    tensors = elements(*files)
    described = image_input(*files, parameters={"binary_data_size": len(tensors)})
    del described["data"]
    document = {"inputs": [described], "parameters": {"binary_data_output": binary}, **fields}
    return binary_call(document, tensors)


def tensors_of(answer: httpx.Response) -> dict[str, Any]:
    """Return an answer's outputs by name: their data, or their bytes."""
    length = int(answer.headers.get(HEADER_LENGTH, len(answer.content)))
    outputs, rest = json.loads(answer.content[:length])["outputs"], answer.content[length:]
    found = {}
    for output in outputs:
        if "data" in output:
            found[output["name"]] = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return found
