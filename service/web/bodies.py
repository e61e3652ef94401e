"""Reads a request's body within its limits and finds the image in it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from service.api.errors import BodyTooLargeError, UploadTimeoutError
from service.web.admission import Permit

if TYPE_CHECKING:
    from starlette.requests import Request


STALL_SECONDS = 10.0
"""A body of which nothing came for this long is not coming."""


async def read_body(
    request: Request, *, limit_bytes: int, deadline: float, permit: Permit
) -> bytes:
    """Receive the body, counting.

    Args:
        request: whose body was not touched yet.
        limit_bytes: largest body.
        deadline: monotonic moment by which it has to be complete.
        permit: holds its bytes.

    Raises:
        BodyTooLargeError: by the declared length, or as soon as the count passes the limit.
        MemoryFullError: the same, where the body is small enough but there are many.
        UploadTimeoutError: if it is not complete in time, or stalls.
        ClientDisconnect: if the client left.
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit():
        if int(declared) > limit_bytes:
            raise BodyTooLargeError(limit_bytes=limit_bytes, declared_bytes=int(declared))
        permit.hold(int(declared))
    started, received, chunks = time.monotonic(), 0, []
    try:
        async with asyncio.timeout(None) as patience:
            loop = asyncio.get_running_loop()
            last_moment = loop.time() + deadline - started
            patience.reschedule(min(last_moment, loop.time() + STALL_SECONDS))
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                permit.hold(received)
                chunks.append(chunk)
                patience.reschedule(min(last_moment, loop.time() + STALL_SECONDS))
    except TimeoutError:
        raise UploadTimeoutError(
            limit_seconds=time.monotonic() - started, received_bytes=received
        ) from None
    return b"".join(chunks)
