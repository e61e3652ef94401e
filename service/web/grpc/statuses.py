"""gRPC's status codes for the failures that a caller can see."""

from __future__ import annotations

import grpc

from service.web.http.middleware import CLIENT_CLOSED_REQUEST

CODES = {
    200: grpc.StatusCode.OK,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CLIENT_CLOSED_REQUEST: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By status of HTTP; the others are INVALID_ARGUMENT below 500, and INTERNAL."""

OF_THE_SERVICE = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
}
"""Codes that say that the service failed and not its caller, as OpenTelemetry reads them."""


def code_of(status: int) -> grpc.StatusCode:
    """Return the code of an answer that would have a status by HTTP."""
    other = grpc.StatusCode.INVALID_ARGUMENT if status < 500 else grpc.StatusCode.INTERNAL
    return CODES.get(status, other)
