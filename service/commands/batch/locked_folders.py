"""Temporary folders that a lock marks as in use, so that a later run removes a killed one's."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REMOVALS = 20
"""Attempts to remove a folder that processes which are ending still write to."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Mark a folder as in use, for as long as this process lives."""
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders of this user's runs that were killed.

    Args:
        parent: of the folders.
        prefix: of their names.
    """
    for lock in parent.glob(f"{prefix}*/lock"):
        try:
            if lock.stat().st_uid != os.getuid():
                continue
            with lock.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(lock.parent)
        except OSError:
            continue  # it is in use, or another run has just removed it


def remove(folder: Path) -> None:
    """Remove a run's folder; the lock goes last, so that what stays is found by a later run."""
    for _ in range(REMOVALS):
        # Ray's processes may write to their logs until they have ended.
        shutil.rmtree(folder / "ray", ignore_errors=True)
        if not (folder / "ray").exists():
            shutil.rmtree(folder, ignore_errors=True)
            return
        time.sleep(0.1)
