"""The protocol's part of the OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from service.api.queries import MAX_IMAGES

Node = dict[str, Any]

TAG = "open inference protocol"

_PARAMETERS: Node = {
    "type": "object",
    "additionalProperties": {"type": ["boolean", "number", "string"]},
}

_INPUT: Node = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "enum": ["image"]},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "description": f"BYTES: [images]; UINT8: [images, height, width, 3]. At most "
            f"{MAX_IMAGES} images.",
        },
        "parameters": _PARAMETERS,
        "data": {
            "type": "array",
            "description": "BYTES: base64 of a file each; UINT8: the pixels' values.",
            "items": {},
        },
    },
}

_CALL: Node = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": 1},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
        "model_name": {"type": "string", "description": "The path's, repeated."},
        "model_version": {"type": ["string", "null"], "description": "The same."},
    },
}

INFERENCE_BODY: Node = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _CALL},
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The JSON and the inputs' bytes behind it, by the binary tensor "
                    "extension; Inference-Header-Content-Length says how long the JSON is.",
                }
            },
        },
    }
}

_ERROR: Node = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}

HEADER_PARAMETER: Node = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Bytes of the JSON, where tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}


VERSION_PARAMETER: Node = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The first digits of the weights' digest, as the model's metadata has them.",
    "schema": {"type": "string"},
}

INDEX: Node = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "ready": {"type": "boolean", "description": "Those alone that are served."}
                    },
                }
            }
        },
    }
}

BINARY_ANSWER: dict[int | str, Node] = {
    200: {
        "content": {
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The JSON, and the outputs asked for as binary behind it.",
                }
            }
        }
    }
}


def protocol_errors(*statuses: int) -> dict[int | str, Node]:
    """Document the errors that a route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": _ERROR}},
        }
        for status in statuses
    }
