"""A lock on a folder of compiled code: of processes that start together, one fills it.

The system releases the lock when its holder dies, so that another process goes on. On NFS the lock
holds between machines, too: Linux asks the server for a lock of the file's bytes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LOCK_NAME = "lock"
"""The lock's file; it holds a word once the folder is full. Taking a lock makes NFS read it anew,
where another file might be missing for as long as a client remembers that there was none."""

FULL = b"full\n"
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 600.0
"""For a holder that may be stuck: half of the time that Kubernetes gives a start in ``k8s/``."""

logger = logging.getLogger(__name__)


@contextmanager
def filled_once(folder: Path | None) -> Iterator[None]:
    """Fill a folder of compiled code while the block runs, or find it full.

    The first process holds the lock while its block runs. Others wait before theirs, which then run
    at once. A block that fails leaves the folder to the next process.

    Args:
        folder: with the compilers' caches; None for a process that compiles nothing.
    """
    if folder is None:
        yield
        return
    try:
        file = (folder / LOCK_NAME).open("a+b")
    except OSError as error:
        logger.warning("%s cannot be locked (%s): others may compile the same.", folder, error)
        yield
        return
    with file:
        if not _is_full(file):
            _wait_for_lock(file, folder)
        full = _is_full(file)
        if full:
            file.close()  # which gives the lock to the next
        yield
        if not full:
            # A full disk costs the next process a wait, and this one nothing.
            with suppress(OSError):
                os.write(file.fileno(), FULL)


def _is_full(file: BinaryIO) -> bool:
    return os.fstat(file.fileno()).st_size > 0


def _wait_for_lock(file: BinaryIO, folder: Path) -> None:
    """Take the lock; give up with a warning where there are none, or its holder seems stuck."""
    until, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            logger.warning("%s cannot be locked (%s): others may compile the same.", folder, error)
            return
        if time.monotonic() > until:
            logger.warning("Another process has not filled %s in time; compiling, too.", folder)
            return
        if not told:
            logger.info("Another process compiles into %s; waiting for it.", folder)
            told = True
        time.sleep(POLL_SECONDS)
