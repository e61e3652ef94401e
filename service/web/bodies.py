"""Reading of a request's body within its limits of size, memory and time."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import TYPE_CHECKING

from service.api.errors import (
    BodyTooLargeError,
    MalformedRequestError,
    UnsupportedCodingError,
    UploadTimeoutError,
)
from service.web.admission import Permit

if TYPE_CHECKING:
    from starlette.requests import Request


STALL_SECONDS = 10.0
"""Seconds that an upload may lag behind the least rate; without a byte it has timed out by then."""

LEAST_BYTES_PER_SECOND = 1024
"""Least rate of an upload; what it was faster before does not count."""

INFLATED_STEP_BYTES = 64 * 1024
"""Bytes that are decompressed at once."""

CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
"""Content codings, and zlib's ``wbits`` for each. Source: RFC 9110, section 8.4.1."""


async def read_body(
    request: Request, *, limit_bytes: int, deadline: float, permit: Permit
) -> bytes:
    """Receive the body.

    Args:
        request: with its body unread.
        limit_bytes: largest body.
        deadline: monotonic moment by which it has to be complete.
        permit: accounts for the bytes held in memory, as they arrive.

    Raises:
        BodyTooLargeError: if the bytes received exceed the limit.
        MemoryFullError: if all requests together hold too many bytes.
        UploadTimeoutError: if the body is not complete in time, stalls, or is too slow.
        ClientDisconnect: if the client left.
    """
    loop = asyncio.get_running_loop()
    started, received, chunks = loop.time(), 0, []
    ends_at = started + deadline - time.monotonic()
    too_slow_at = started + STALL_SECONDS
    try:
        async with asyncio.timeout_at(min(ends_at, too_slow_at)) as timeout:

            def stop() -> None:
                if not timeout.expired():
                    timeout.reschedule(loop.time())

            permit.on_give_way = stop
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                permit.hold(received)
                chunks.append(chunk)
                now = loop.time()
                earned_seconds = len(chunk) / LEAST_BYTES_PER_SECOND
                too_slow_at = min(too_slow_at + earned_seconds, now + STALL_SECONDS)
                timeout.reschedule(min(ends_at, too_slow_at))
    except TimeoutError:
        permit.hold(0)  # raises if it gave way
        raise UploadTimeoutError(
            limit_seconds=loop.time() - started,
            received_bytes=received,
            least_bytes_per_second=LEAST_BYTES_PER_SECOND if too_slow_at < ends_at else None,
        ) from None
    return b"".join(chunks)


def declared_length(request: Request, *, limit_bytes: int) -> int:
    """Return a body's declared length, bytes; 0 if none is declared.

    Raises:
        BodyTooLargeError: if it exceeds the limit.
    """
    declared = request.headers.get("content-length", "")
    declared_bytes = int(declared) if declared.isdecimal() else 0
    if declared_bytes > limit_bytes:
        raise BodyTooLargeError(limit_bytes=limit_bytes, declared_bytes=declared_bytes)
    return declared_bytes


def content_coding(request: Request) -> str | None:
    """Return the coding of a body, one of ``CODINGS``; None if it comes as it is.

    Raises:
        UnsupportedCodingError: for another coding, or for several.
    """
    header = ",".join(request.headers.getlist("content-encoding")).lower()
    codings = [coding for part in header.split(",") if (coding := part.strip()) != "identity"]
    if codings in ([], [""]):
        return None
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise UnsupportedCodingError(coding=header[:80])
    return codings[0]


def inflate(body: bytes, coding: str, *, limit_bytes: int) -> bytes:
    """Decompress a body.

    Args:
        body: compressed, complete.
        coding: one of ``CODINGS``; deflate may come without zlib's header, as some clients send it.
        limit_bytes: largest result; no more than that is ever held.

    Raises:
        BodyTooLargeError: if the result would be larger.
        MalformedRequestError: if the body is damaged or incomplete, or something follows it.
    """
    has_header = coding != "deflate" or int.from_bytes(body[:2], "big") % 31 == 0
    inflater = zlib.decompressobj(CODINGS[coding] if has_header else -zlib.MAX_WBITS)
    parts, inflated_bytes = [], 0
    try:
        for start in range(0, len(body), INFLATED_STEP_BYTES):
            rest = body[start : start + INFLATED_STEP_BYTES]
            while rest and not inflater.eof:
                parts.append(inflater.decompress(rest, INFLATED_STEP_BYTES))
                rest = inflater.unconsumed_tail
                inflated_bytes += len(parts[-1])
                if inflated_bytes > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
            if inflater.eof and (rest or inflater.unused_data):
                raise MalformedRequestError(f"Bytes follow the end of the {coding} body.")
    except zlib.error as error:
        raise MalformedRequestError(f"The body is no intact {coding}: {error}.") from error
    if not inflater.eof:
        raise MalformedRequestError(f"The {coding} body ends before it is complete.")
    return b"".join(parts)
