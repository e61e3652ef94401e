"""The folder that the processes of one service share: sockets, metrics, the engines' notes.

Each of them holds a lock on it, which the kernel takes back when the process ends, however it does.
A folder that nobody holds belongs to no service: whoever leaves last removes it, and what was left
by processes that could not is removed at the next start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "overlock-"

MARK = ".overlock-runtime"
"""A file that is made once the lock is held, and tells such a folder from any other."""


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
        """Make a private folder, and remove those beside it that were left behind."""
        for path in parent.glob(f"{PREFIX}*/{MARK}"):
            _remove_abandoned(path.parent)
        folder = RuntimeFolder(Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)))  # mode 0700
        (folder.path / MARK).touch()
        return folder

    def leave(self) -> None:
        """Let go of the folder, and remove it if nobody else holds it."""
        _remove_unless_held(self.path, self._lock)
        os.close(self._lock)

    def remove(self) -> None:
        """Remove the folder, whoever still holds it: the service has ended."""
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
    except OSError:  # held; or there are no locks here, and then nothing is certain
        return
    shutil.rmtree(path, ignore_errors=True)
