"""Calls from pages of other origins: CORS, as https://fetch.spec.whatwg.org describes it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request
from starlette.middleware.cors import CORSMiddleware

from service.api.errors import OriginRefusedError
from service.settings import PREFIX
from service.settings.values import is_loopback
from service.web.http.problems import problem_response

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp

EXPOSED_HEADERS = (
    *("X-Request-ID", "Server-Timing", "Retry-After"),
    *("X-Model-Digest", "X-Model-Weights", "X-Embedding-Dimension"),
    "Inference-Header-Content-Length",
)
"""Headers of answers that a page of another origin may read."""

SENT_HEADERS = (
    *("Authorization", "Content-Encoding", "Content-Type"),
    *("Inference-Header-Content-Length", "X-Request-ID", "traceparent", "tracestate"),
)
"""Headers of requests that it may send, beside those that every page may."""

METHODS = ("GET", "HEAD", "POST")

DEFAULT_PORTS = {"http": 80, "https": 443}


async def refuse_other_origins(request: Request) -> None:
    """Refuse what a browser sends for a page that is not the service's own.

    Without API keys a page has to come from this machine: where its name only leads to a loopback
    address, somebody else's page would pass for the service's own.

    Raises:
        OriginRefusedError: if such a page asks.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return
    host = _hostname(origin, request.headers.get("host", ""))
    has_keys = hasattr(request.app.state, "api_keys")
    if host is None or not (has_keys or is_loopback(host)):
        raise OriginRefusedError(f"Pages of {origin!r} may not load or unload models.")


def _hostname(origin: str, host: str) -> str | None:
    """Return the hostname of an origin, if it is that of a Host header; else None."""
    try:
        page = urlsplit(origin.lower())
        hosts = {page.netloc, f"{page.netloc}:{DEFAULT_PORTS[page.scheme]}"}
    except (KeyError, ValueError):
        return None
    return page.hostname if host.lower() in hosts else None


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
