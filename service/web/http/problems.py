"""Rendering of errors as RFC 9457 problem+json, in this place only."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service import metrics, tracing
from service.api.errors import InvalidParameterError, ServiceError
from service.api.schemas import ProblemDocument

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

MAX_FAULTS = 8
"""Maximum number of invalid parameters that a problem names."""

PROTOCOL_PATH = re.compile(r"(^|/)v2(/|$)")
"""Paths whose errors have the Open Inference Protocol's form."""

OPENAI_PATH = "/v1/embeddings"
"""Route whose errors have OpenAI's form."""

OPENAI_PARAMETERS = {"model", "input", "encoding_format", "dimensions"}

MEDIA_TYPE = "application/problem+json"


def problem_response(error: ServiceError, *, path: str, request_id: str) -> Response:
    """Render an error for the caller."""
    metrics.REJECTED.labels(error.slug).inc()
    tracing.describe(problem=error.slug)
    document = ProblemDocument(
        type=f"urn:overlock:problem:{error.slug}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=path,
        request_id=request_id,
    )
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_seconds), 1))
    if path.endswith(OPENAI_PATH):
        return JSONResponse({"error": _openai_error(error)}, error.status, headers)
    if PROTOCOL_PATH.search(path):
        return JSONResponse({"error": error.detail}, error.status, headers)
    return Response(document.model_dump_json(), error.status, headers, MEDIA_TYPE)


def _openai_error(error: ServiceError) -> dict[str, str | None]:
    """Return an error as clients of OpenAI's API read it."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(
        error.status, "server_error" if error.status >= 500 else "invalid_request_error"
    )
    param = error.detail.partition(":")[0].partition(" ")[0].partition("[")[0]
    return {
        "message": error.detail,
        "type": kind,
        "param": param if param in OPENAI_PARAMETERS else None,
        "code": error.slug,
    }


def install_problem_handlers(app: FastAPI) -> None:
    """Answer the errors of routes and of the framework with problems.

    Unexpected errors are caught further out, in ``service.web.http.middleware``.
    """
    app.exception_handler(ServiceError)(_on_service_error)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(RequestValidationError)(_on_validation_error)


async def _on_service_error(request: Request, error: ServiceError) -> Response:
    return problem_response(error, path=request.url.path, request_id=request.state.request_id)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    kind = type(
        "FrameworkError",
        (ServiceError,),
        {
            "status": error.status_code,
            "slug": phrase.lower().replace(" ", "-"),
            "title": phrase,
        },
    )
    detail = f"{request.method} {request.url.path}: {error.detail}."
    response = problem_response(
        kind(detail), path=request.url.path, request_id=request.state.request_id
    )
    response.headers.update(error.headers or {})
    if "GET" in response.headers.get("Allow", "").split(", "):
        response.headers["Allow"] += ", HEAD"  # the middleware answers it
    return response


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    # After "query" the parameter, and in a repeated one the place.
    faults = [
        {**fault, "loc": fault["loc"][min(1, len(fault["loc"]) - 1) :]} for fault in error.errors()
    ]
    return await _on_service_error(request, invalid_parameters(faults))


def invalid_parameters(faults: Sequence[Mapping[str, Any]]) -> InvalidParameterError:
    """Return the error that names invalid parameters.

    Args:
        faults: as pydantic lists them, each with its parameter first in ``loc``.
    """
    details = []
    if len(faults) > MAX_FAULTS:
        details.append(f"There are {len(faults)} faults, of which {MAX_FAULTS} follow.")
    for fault in faults[:MAX_FAULTS]:
        name = str(fault["loc"][0])
        if fault["type"] == "extra_forbidden":
            details.append(f"There is no parameter {name}.")
        else:
            reason = fault["msg"].removeprefix("Value error, ")  # pydantic's, of our own checks
            details.append(f"{name}: {reason}; it is {reprlib.repr(fault['input'])}.")
    return InvalidParameterError(" ".join(details))
