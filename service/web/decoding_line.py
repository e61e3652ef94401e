"""How long a request waits until its image is decoded: what is before it, at the line's own pace.

Where cores are few, it is decoding that a burst overwhelms, and not the device: requests that are
let in all the same are decoded in vain, each just too late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MEMORY = 0.9
"""Weight that the past keeps when another image is done: about the last ten count."""

HEADROOM = 1.25
"""How much longer than expected the line may take: whoever is let in shall be in time."""


class DecodingLine:
    """Counts who is in line and learns how fast it moves. For one event loop.

    Args:
        clock: returns the present moment, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0
        self._last_move = 0.0
        self._seconds_each: float | None = None

    @property
    def wait_seconds(self) -> float:
        """How long one more request would be in line; 0.0 while nothing was learnt."""
        return HEADROOM * self._length * (self._seconds_each or 0.0)

    @contextmanager
    def in_line(self) -> Iterator[None]:
        """Be in line; whoever leaves before the end of it counts no more, and teaches nothing."""
        if self._length == 0:
            self._last_move = self._clock()
        self._length += 1
        try:
            yield
            self._learn()
        finally:
            self._length -= 1

    def _learn(self) -> None:
        now = self._clock()
        seconds, self._last_move = now - self._last_move, now
        before = self._seconds_each
        self._seconds_each = seconds if before is None else MEMORY * before + (1 - MEMORY) * seconds
