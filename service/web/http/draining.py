"""The end of an HTTP worker: unready first, refusing later, and gone when all is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.api.errors import NotReadyError


class Draining:
    """Whether a worker still takes requests, and how many it has to answer.

    Attributes:
        begun: whether load balancers should send nothing more.
    """

    def __init__(self) -> None:
        self.begun = False
        self._refuses = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            NotReadyError: once requests are refused.
        """
        if self._refuses:
            raise NotReadyError("The service is stopping.", retry_after_seconds=1.0)
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def run(self, delay_seconds: float, longest_seconds: float) -> None:
        """Be unready, refuse requests after the delay, and return when the others are answered.

        The worker listens all the time, so that probes and metrics are answered until the end.

        Args:
            delay_seconds: how long requests are still taken.
            longest_seconds: most that their answers take from then on.
        """
        self.begun = True
        await asyncio.sleep(delay_seconds)
        self._refuses = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), longest_seconds)
