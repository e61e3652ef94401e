"""Answers to what is no request that the application could answer."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable

from service.api.errors import (
    BodyTooLargeError,
    ExpectationError,
    HeadTimeoutError,
    HeadTooLargeError,
    HttpVersionError,
    MalformedRequestError,
    ServiceError,
    TargetTooLongError,
    TransferCodingError,
)
from service.web.http.exchange import STATUS_LINES, STATUS_START
from service.web.http.open_connections import CROWDED, UNREAD
from service.web.http.problems import problem_response

CUT_REASONS = (
    CROWDED,
    UNREAD,
    BodyTooLargeError.slug,
    ExpectationError.slug,
    HeadTimeoutError.slug,
    HeadTooLargeError.slug,
    HttpVersionError.slug,
    MalformedRequestError.slug,
    ServiceError.slug,
    TargetTooLongError.slug,
    TransferCodingError.slug,
)
"""Reasons for which connections are ended; labels of ``metrics.CONNECTIONS_CUT``."""

logger = logging.getLogger("service.access")


def refusal(
    error: ServiceError,
    default_headers: Iterable[tuple[bytes, bytes]],
    *,
    client: str,
    with_body: bool,
    fault: Exception | None = None,
) -> bytes:
    """Return an answer that ends its connection, and log that it was sent.

    Args:
        error: why.
        default_headers: of every answer.
        client: the other end's address, which is a proxy's where one is in front.
        with_body: unless the request's method is HEAD.
        fault: of ours, if one is the cause.
    """
    request_id = uuid.uuid4().hex
    response = problem_response(error, path="", request_id=request_id)
    headers = (
        *default_headers,
        *response.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    )
    logger.log(
        logging.INFO if fault is None else logging.ERROR,
        "refused: %s",
        error.slug,
        extra={"status": response.status_code, "client": client, "request_id": request_id}
        | ({} if fault is None else {"fault": repr(fault)}),
    )
    lines = [b"%b: %b\r\n" % header for header in headers]
    head = b"".join((STATUS_START, STATUS_LINES[response.status_code], *lines, b"\r\n"))
    return head + bytes(response.body) if with_body else head
