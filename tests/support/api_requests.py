"""Requests with a drawn photo, and a check of problems."""

from __future__ import annotations

import io

import httpx
from PIL import Image

JPEG = {"Content-Type": "image/jpeg"}


def photo(width: int = 300, height: int = 200, image_format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def is_problem(answer: httpx.Response, status: int, slug: str) -> str:
    """Check that an answer is a complete problem; return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:overlock:problem:{slug}"
    assert problem["title"]
    assert problem["instance"] == answer.request.url.path
    assert problem["request_id"] == answer.headers["x-request-id"]
    detail: str = problem["detail"]
    return detail
