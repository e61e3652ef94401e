"""Calls from pages of other origins: CORS, as https://fetch.spec.whatwg.org describes it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from service.api.errors import OriginRefusedError
from service.settings import PREFIX
from service.web.http.problems import problem_response

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp

EXPOSED_HEADERS = (
    *("X-Request-ID", "Server-Timing", "Retry-After"),
    *("X-Model-Digest", "X-Model-Weights", "X-Embedding-Dimension"),
)
"""Headers of answers that a page of another origin may read."""

SENT_HEADERS = (
    *("Authorization", "Content-Encoding", "Content-Type"),
    *("X-Request-ID", "traceparent", "tracestate"),
)
"""Headers of requests that it may send, beside those that every page may."""

METHODS = ("GET", "HEAD", "POST")


class CrossOriginMiddleware(CORSMiddleware):
    """Middleware that lets pages of some origins call the service.

    A preflight is answered here, before a key is demanded: browsers send none with it.

    Args:
        app: the application inside.
        origins: such as ``https://a.example``, or ``*``.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; refuse it with a problem."""
        request_id = uuid.uuid4().hex
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            reason = bytes(response.body).decode()
            error = OriginRefusedError(
                f"{reason}. Pages of the origins in {PREFIX}CORS_ORIGINS may ask by "
                f"{', '.join(METHODS)} and send {', '.join(SENT_HEADERS)}."
            )
            response = problem_response(error, path="", request_id=request_id)
        response.headers["X-Request-ID"] = request_id
        return response
