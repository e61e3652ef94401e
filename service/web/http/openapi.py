"""The OpenAPI document: what FastAPI derives, and what only this service knows."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from model.config import Task
from service.api.queries import ClassifyQuery
from service.api.schemas import ProblemDocument
from service.images.decode import SUPPORTED_MEDIA_TYPES
from service.link.pool import Generations
from service.settings import Settings

Node = dict[str, Any]

DESCRIPTION = (
    "Classification, segmentation and detection of images by OverLoCK networks. An image is the "
    "body itself, a form's field `image`, or base64 in JSON. A failure is a problem of RFC 9457. "
    "Below `/v2` the service speaks the Open Inference Protocol, version 2."
)

TAGS = [
    {"name": "inference", "description": "Images and models; behind a key if there are keys."},
    {
        "name": "open inference protocol",
        "description": "Version 2, as KServe's and Triton's clients speak it; behind a key as "
        "well, but for `/v2/health`.",
    },
    {"name": "operations", "description": "Probes and metrics; never behind a key."},
]

_BINARY = {"type": "string", "format": "binary"}

_PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}


def _object_with_image(image: Node) -> Node:
    return {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": image},
            "additionalProperties": False,
        }
    }


IMAGE_BODY: Node = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _BINARY} for media_type in SUPPORTED_MEDIA_TYPES},
            "multipart/form-data": _object_with_image(_BINARY),
            "application/json": _object_with_image({"type": "string", "format": "byte"}),
        },
    }
}
"""The three forms of an image in a request."""

_HEADERS: dict[str, Node] = {
    "X-Request-ID": {"description": "The request's id.", "schema": {"type": "string"}},
    "Server-Timing": {
        "description": "Milliseconds of the request's stages.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
    "X-Embedding-Dimension": {
        "description": "How many numbers the bytes hold.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Inference-Header-Content-Length": {
        "description": "Bytes of the JSON before the tensors.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-Model-Digest": {
        "description": "SHA-256 of the weights that answered; 0 for random ones.",
        "schema": {"type": "string"},
    },
    "X-Model-Weights": {
        "description": "Sent if the answer was made with such weights.",
        "schema": {"type": "string", "enum": ["demo", "random"]},
    },
}

_OPENAI_ERROR: Node = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}

_ALWAYS = ("X-Request-ID", "Server-Timing")
_BY_STATUS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}
_OF_BYTES = {"": "X-Embedding-Dimension", "infer": "Inference-Header-Content-Length"}
"""Headers of answers in plain bytes, by what follows the underscore in the operation's id."""
_OF_ANSWERS = ("X-Model-Digest", "X-Model-Weights")


def png_or_json(description: str) -> dict[int | str, Node]:
    """Document that a route also answers with a picture."""
    return {200: {"content": {"image/png": {"schema": _BINARY | {"description": description}}}}}


def bytes_or_json(description: str) -> dict[int | str, Node]:
    """Document that a route also answers with plain bytes."""
    schema = _BINARY | {"description": description}
    return {200: {"content": {"application/octet-stream": {"schema": schema}}}}


def problems(*statuses: int) -> dict[int | str, Node]:
    """Document the problems that a route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status in statuses
    }


def openai_errors(*statuses: int) -> dict[int | str, Node]:
    """Document the errors that a route in OpenAI's form may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": _OPENAI_ERROR}},
        }
        for status in statuses
    }


class ApiDocument:
    """The document of an application, to be set as its ``openapi``.

    Args:
        app: with all of its routes.
        settings: whose limits the document states.
        generations: whose models set further limits, once they are known.
    """

    def __init__(self, app: FastAPI, settings: Settings, generations: Generations) -> None:
        self._app = app
        self._settings = settings
        self._generations = generations
        self._document: Node | None = None

    def __call__(self) -> Node:
        """Return the document."""
        if self._document is None:
            self._document = FastAPI.openapi(self._app)
            self._complete(self._document)
        self._limit_top_k(self._document)
        return self._document

    def _complete(self, document: Node) -> None:
        components = document["components"]
        components["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
        components["headers"] = _HEADERS
        for operation in _operations(document):
            takes_image = "415" in operation["responses"]
            for status, response in operation["responses"].items():
                names = [*_ALWAYS, *_BY_STATUS.get(status, ())]
                if takes_image and status == "200":
                    names += _OF_ANSWERS
                if "application/octet-stream" in response.get("content", {}):
                    names.append(_OF_BYTES[operation["operationId"].partition("_")[2]])
                response["headers"] = {
                    name: {"$ref": f"#/components/headers/{name}"} for name in names
                }
            if takes_image:
                self._limit(operation)

    def _limit(self, operation: Node) -> None:
        """State what the settings say of a body and a timeout."""
        most = self._settings.max_body_bytes
        operation["requestBody"]["description"] = (
            f"At most {most} bytes, and {self._settings.max_image_pixels} pixels."
        )
        for media_type, content in operation["requestBody"]["content"].items():
            if media_type.startswith("image/"):
                content["schema"] = content["schema"] | {"maxLength": most}
        # Not as its default, which generated clients would send, whatever the settings become.
        default = self._settings.default_timeout_seconds
        for parameter in operation["parameters"]:
            if parameter["name"] == "timeout":
                parameter["description"] += f" Without one, {default:g}."
                parameter["schema"]["maximum"] = self._settings.max_timeout_seconds

    def _limit_top_k(self, document: Node) -> None:
        models = [m for offer in self._generations.current.offers for m in offer.models]
        classes = [len(model.labels) for model in models if model.task is Task.CLASSIFY]
        if classes:
            top_k = _parameter(document["paths"]["/v1/classify"]["post"], "top_k")
            # Of fewer classes than the default asks for, all are answered.
            default = ClassifyQuery.model_fields["top_k"].default
            top_k["schema"] |= {"maximum": max(classes), "default": min(default, max(classes))}


def _operations(document: Node) -> Iterator[Node]:
    for path in document["paths"].values():
        yield from path.values()


def _parameter(operation: Node, name: str) -> Node:
    found: Node = next(each for each in operation["parameters"] if each["name"] == name)
    return found
