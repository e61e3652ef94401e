"""Progress of a command over many images: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self

from tqdm import tqdm

from service.commands.console.exits import print_error

PROGRESS_SECONDS = 10.0
"""Time between two lines of progress where the standard error stream is no terminal."""


class ImageProgress:
    """Shows how many images are done. Used in a ``with`` statement, which ends the bar.

    Args:
        total: the number of images.
        program: prefix of each line.
        clock: seconds on a monotonic clock.

    Attributes:
        done: images so far.
    """

    def __init__(
        self, total: int, program: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.done = 0
        self._total, self._program = total, program
        # None: no bar where the standard error stream is no terminal; lines, then.
        disable = None if total > 1 else True
        self._clock, self._started_at, self._told_at = clock, clock(), clock()
        self._first: tuple[float, int] | None = None
        self._bar = tqdm(total=total, unit=" images", leave=False, disable=disable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return self._clock() - self._started_at

    def advance(self, images: int = 1) -> None:
        """Count images that are done."""
        self.done += images
        self._bar.update(images)
        now = self._clock()
        if self._first is None:
            self._first = now, self.done
        left = self._total - self.done
        if not self._bar.disable or left == 0 or now - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = now
        # The first images have waited for processes and networks, which the others do not.
        first_at, first = self._first
        speed = ""
        if self.done > first and now > first_at:
            rate = (self.done - first) / (now - first_at)
            speed = f", {rate:.3g} a second, about {tqdm.format_interval(left / rate)} left"
        print_error(f"{self.done} of {self._total} images{speed}.", self._program)

    def note(self, note: str | None) -> None:
        """Print a sentence beside the bar; None prints nothing."""
        if note is not None:
            with tqdm.external_write_mode(sys.stderr):
                print_error(note, self._program)

    def close(self) -> None:
        """End the bar; may be called twice."""
        self._bar.close()
