"""The streams that clients may keep open without a key: health watches and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

MAX_STREAMS = 64
"""Most such streams of a worker, so that they leave room for calls."""


class OpenStreams:
    """Counts the streams of one worker, and ends them with it."""

    def __init__(self) -> None:
        self._timeouts: set[asyncio.Timeout] = set()
        self._ended = False

    @asynccontextmanager
    async def entered(
        self, context: grpc.aio.ServicerContext[Any, Any], longest_seconds: float | None
    ) -> AsyncIterator[None]:
        """Count a stream while the block runs; the block ends with the time or the server.

        Args:
            context: of the stream; one too many is ended with RESOURCE_EXHAUSTED.
            longest_seconds: how long the stream may last; None as long as its client likes.
        """
        if len(self._timeouts) >= MAX_STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"There are {MAX_STREAMS} streams for health and reflection already.",
            )
        try:
            async with asyncio.timeout(0.0 if self._ended else longest_seconds) as timeout:
                self._timeouts.add(timeout)
                yield
        except TimeoutError:
            return
        finally:
            self._timeouts.discard(timeout)

    def end(self) -> None:
        """End all streams, and every later one."""
        self._ended = True
        for timeout in self._timeouts:
            timeout.reschedule(asyncio.get_running_loop().time())
