"""The folder that the processes of one service share: sockets, metrics, in-flight journals.

Each process holds a lock on it, which the kernel releases when the process ends in any way. The
last process to leave removes the folder; one that was left behind is removed at the next start.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.settings import SettingsError

NAME_PREFIX = "overlock-"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made there is private

LONGEST_PARENT_BYTES = 107 - len(f"/{NAME_PREFIX}xxxxxxxx/engine-00a.sock")
"""A Unix socket's path has at most 107 bytes (unix(7))."""

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
    def create(parent: Path, needed_bytes: int = 0) -> RuntimeFolder:
        """Make a private folder, and remove abandoned ones beside it.

        Args:
            parent: an existing folder.
            needed_bytes: what the processes will write.

        Raises:
            SettingsError: if the folder cannot be made, or has no space for that.
        """
        try:
            for path in parent.glob(f"{NAME_PREFIX}*/{MARK}"):
                _remove_abandoned(path.parent)
            if len(os.fsencode(parent)) > LONGEST_PARENT_BYTES:
                raise OSError(errno.ENAMETOOLONG, "its path is too long for sockets in it")
            free_bytes = _free_bytes(parent)
            if free_bytes < needed_bytes:
                raise OSError(errno.ENOSPC, f"{free_bytes} bytes are free, {needed_bytes} needed")
            made = Path(tempfile.mkdtemp(prefix=NAME_PREFIX, dir=parent))  # mode 0700
            folder = RuntimeFolder(made)
            (made / MARK).touch()
        except OSError as error:
            raise SettingsError(
                f"The runtime folder cannot be made in {parent}: {error.strerror}. Make room "
                "there, or set TMPDIR to another folder."
            ) from error
        return folder

    def leave(self) -> None:
        """Release the folder, and remove it if no other process holds it."""
        _remove_unless_held(self.path, self._lock)
        os.close(self._lock)

    def remove(self) -> None:
        """Remove the folder even if a process still holds it: the service has ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def runtime_parent() -> Path:
    """Return the folder for runtime folders: in memory, unless TMPDIR names another.

    Metrics are mapped files: on a full disk the next write to one would end the process.
    """
    named = os.environ.get("TMPDIR")
    if named:
        return Path(named).absolute()
    usable = os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return SHARED_MEMORY if usable else Path("/tmp")  # noqa: S108 - the folder made there is private


def runtime_folders() -> Iterator[Path]:
    """Yield the runtime folders that this user has where a service would make one."""
    for mark in sorted(runtime_parent().glob(f"{NAME_PREFIX}*/{MARK}")):
        with suppress(OSError):  # it is gone by now
            if mark.parent.stat().st_uid == os.geteuid():
                yield mark.parent


def _free_bytes(folder: Path) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


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
