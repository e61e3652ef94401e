"""Progress of a download: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NoReturn

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

ShowProgress = Callable[[int, int | None], None]
"""Takes the number of bytes so far, and that of the whole file; None if it is unknown."""

Progress = Callable[[str], AbstractContextManager[ShowProgress]]
"""Takes the name of a file; returns a context with the function that shows its progress."""

LINE_SECONDS = 10.0

logger = logging.getLogger(__name__)


@contextmanager
def bar(file: str) -> Iterator[ShowProgress]:
    """Draw a bar on the standard error stream; log lines appear above it."""
    with ExitStack() as stack, logging_redirect_tqdm():
        shown: tqdm[NoReturn] | None = None

        def report(done: int, total: int | None) -> None:
            nonlocal shown
            if shown is None:
                # The bytes of an earlier attempt do not count for the speed.
                shown = stack.enter_context(
                    tqdm(
                        desc=file,
                        initial=done,
                        total=total,
                        unit="B",
                        unit_scale=True,
                        dynamic_ncols=True,
                    )
                )
            if done < shown.n:
                shown.reset(total)
            shown.update(done - shown.n)

        yield report


@contextmanager
def log_lines(file: str, clock: Callable[[], float] = time.monotonic) -> Iterator[ShowProgress]:
    """Log a line every ten seconds."""
    last_line, last_done = clock(), 0

    def report(done: int, total: int | None) -> None:
        nonlocal last_line, last_done
        seconds = clock() - last_line
        if seconds < LINE_SECONDS:
            return
        speed = max(done - last_done, 0) / seconds
        share = "" if total is None else f" of {megabytes(total)} ({_percent(done, total)} %)"
        logger.info("%s: %s%s, %s/s", file, megabytes(done), share, megabytes(round(speed)))
        last_line, last_done = clock(), done

    yield report


def automatic(file: str) -> AbstractContextManager[ShowProgress]:
    """Draw a bar on a terminal and log lines elsewhere."""
    return bar(file) if sys.stderr.isatty() else log_lines(file)


def _percent(done: int, total: int) -> int:
    return 100 * done // total if total else 100


def megabytes(count: int) -> str:
    """Format a number of bytes in megabytes."""
    return f"{count / 10**6:.1f} MB"
