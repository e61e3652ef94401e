"""A lock between processes that want the same file."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that the system releases when the process dies.

    The file is never removed: otherwise one process could hold the old file's lock and another
    process a new file's.

    Args:
        path: of the lock's file.
        what: is fetched by the process that holds the lock.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Another process is fetching %s; waiting for it.", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
