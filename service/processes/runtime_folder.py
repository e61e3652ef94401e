"""The folder that the processes of one service share: sockets, metrics, in-flight journals.

Each process holds a lock on it, which the kernel releases when the process ends in any way. The
last process to leave removes the folder; one that was left behind is removed at the next start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "overlock-"

MARK = ".overlock-runtime"
"""A file that marks a runtime folder; it is made once the lock is held."""


class RuntimeFolder:
    """One process's hold on the folder.

    Args:
        path: of a folder that exists.

    Raises:
        OSError: if it cannot be locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    @staticmethod
    def create(parent: Path) -> RuntimeFolder:
        """Make a private folder, and remove abandoned ones beside it."""
        for path in parent.glob(f"{PREFIX}*/{MARK}"):
            _remove_abandoned(path.parent)
        folder = RuntimeFolder(Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)))  # mode 0700
        (folder.path / MARK).touch()
        return folder

    def leave(self) -> None:
        """Release the folder, and remove it if no other process holds it."""
        _remove_unless_held(self.path, self._lock)
        os.close(self._lock)

    def remove(self) -> None:
        """Remove the folder even if a process still holds it: the service has ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # someone else's, or gone by now
        return
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            _remove_unless_held(path, lock)
    finally:
        os.close(lock)


def _remove_unless_held(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or on a file system without locks: keep it
        return
    shutil.rmtree(path, ignore_errors=True)
