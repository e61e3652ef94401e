"""Reading of a request's body within its limits of size, memory and time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from service.api.errors import BodyTooLargeError, UploadTimeoutError
from service.web.admission import Permit

if TYPE_CHECKING:
    from starlette.requests import Request


STALL_SECONDS = 10.0
"""Seconds without a byte after which an upload has timed out."""


async def read_body(
    request: Request, *, limit_bytes: int, deadline: float, permit: Permit
) -> bytes:
    """Receive the body.

    Args:
        request: with its body unread.
        limit_bytes: largest body.
        deadline: monotonic moment by which it has to be complete.
        permit: accounts for the bytes held in memory.

    Raises:
        BodyTooLargeError: if the declared length or the bytes received exceed the limit.
        MemoryFullError: if all requests together hold too many bytes.
        UploadTimeoutError: if the body is not complete in time, or stalls.
        ClientDisconnect: if the client left.
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit():
        if int(declared) > limit_bytes:
            raise BodyTooLargeError(limit_bytes=limit_bytes, declared_bytes=int(declared))
        permit.hold(int(declared))
    started, received, chunks = time.monotonic(), 0, []
    try:
        async with asyncio.timeout(None) as timeout:
            loop = asyncio.get_running_loop()
            loop_deadline = loop.time() + deadline - started
            timeout.reschedule(min(loop_deadline, loop.time() + STALL_SECONDS))
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                permit.hold(received)
                chunks.append(chunk)
                timeout.reschedule(min(loop_deadline, loop.time() + STALL_SECONDS))
    except TimeoutError:
        raise UploadTimeoutError(
            limit_seconds=time.monotonic() - started, received_bytes=received
        ) from None
    return b"".join(chunks)
