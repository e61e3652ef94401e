"""Parts of the OpenAPI document that are written by hand: image bodies and problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from service.api.schemas import ProblemDocument
from service.images.decode import SUPPORTED_MEDIA_TYPES

_BINARY = {"type": "string", "format": "binary"}

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _BINARY} for media_type in SUPPORTED_MEDIA_TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": _BINARY},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "byte"}},
                }
            },
        },
    }
}
"""The three forms of an image in a request."""


def png_or_json(description: str) -> dict[int | str, dict[str, Any]]:
    """Document that a route also answers with a picture."""
    return {200: {"content": {"image/png": {"schema": _BINARY | {"description": description}}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the problems that a route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                "application/problem+json": {"schema": ProblemDocument.model_json_schema()}
            },
        }
        for status in statuses
    }
