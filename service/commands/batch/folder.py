"""The output folder: files that appear whole, on this machine or in a bucket."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.remote.addresses import RemoteError
from service.commands.batch.buckets import bucket_errors, files_of, is_bucket
from service.commands.batch.plan import Shard
from service.commands.console.exits import RefusedError

SHARED = re.compile(r"part-\d{5}-\d{5,}\.parquet|manifest-\d{5}\.json")
ALONE = re.compile(r"part-\d{5,}\.parquet|manifest\.json")
UNFINISHED = re.compile(
    r"\.(part|manifest|plan|lock)(-\d{5,}){0,2}(\.parquet|\.json)?(\.\w+\.tmp)?"
)
"""Files of finished and of unfinished runs; those of shards have one number more."""


class OutputFolder(ABC):
    """A folder that gets whole files alone.

    Args:
        name: as it was given.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of its files, sorted."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a file's contents; None if there is none."""

    @abstractmethod
    def opened(self, name: str) -> Any:
        """Open a file for reading; closed by a ``with`` statement."""

    @abstractmethod
    def writing(self, name: str) -> Any:
        """Yield a path to write a file to; it gets its name at the end of the ``with`` statement.

        If that raises, there is no such file, and nothing is left of it.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    @abstractmethod
    def claim(self, shard: Shard) -> Any:
        """Keep other runs of the shard out, as long as a ``with`` statement lasts.

        Raises:
            RefusedError: if another one runs.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def clean(self, shard: Shard) -> None:
        """Remove what killed runs of a shard have left of parts that were not finished."""
        for name in self.names():
            if name.endswith(".tmp") and is_of(name, shard):
                self.remove(name)


def is_of(name: str, shard: Shard) -> bool:
    """Tell whether a file is, finished or not, one of a shard's."""
    stem = re.match(r"\.?(?:part|manifest|plan|lock)(-\d{5,})?(-\d{5,})?", name)
    if stem is None:
        return False
    if shard.count is None:
        return True
    return stem[1] == shard.infix


def check_foreign(folder: OutputFolder, shard: Shard) -> None:
    """Refuse a folder with other files than those of the same kind of run.

    Raises:
        RefusedError: if there are any.
    """
    wanted, other = (ALONE, SHARED) if shard.count is None else (SHARED, ALONE)
    strange = []
    for name in folder.names():
        if wanted.fullmatch(name) or UNFINISHED.fullmatch(name):
            continue
        if other.fullmatch(name):
            raise RefusedError(
                f"{folder.name} has {name}, of a run with{'' if other is SHARED else 'out'} "
                "--shard; give another folder."
            )
        strange.append(name)
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise RefusedError(
            f"{folder.name} has {strange[0]}{others}, which is of no such run; give an empty "
            "folder, or that of an unfinished run."
        )


def output_folder(name: str) -> OutputFolder:
    """Return the folder of a name; it is made when it is first written to."""
    return _BucketFolder(name) if is_bucket(name) else _LocalFolder(name)


class _LocalFolder(OutputFolder):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Ray changes the working folder for a moment.
        self._path = Path(os.path.abspath(name))  # noqa: PTH100
        self._path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def opened(self, name: str) -> Any:
        return (self._path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        path = self._path / f".{name.removeprefix('.')}.{os.getpid()}.tmp"
        try:
            yield path
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(self._path / name)
        finally:
            path.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    @contextmanager
    def claim(self, shard: Shard) -> Iterator[None]:
        path = self._path / f".lock{shard.infix}"
        with path.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # A network's file system may have no locks; nothing is mixed without them either.
                if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise RefusedError(f"Another run writes to {self.name}.") from error
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


class _BucketFolder(OutputFolder):
    """A prefix in a bucket, which has no rename: an object appears whole with its last byte."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._files, path = files_of(name)
        self._path = path.rstrip("/")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with bucket_errors(self.name):
                yield
        except RemoteError as error:
            raise RefusedError(f"The output folder cannot be used: {error}") from error

    def names(self) -> list[str]:
        with self._errors():
            try:
                found = self._files.ls(self._path, detail=False)
            except FileNotFoundError:
                if not self._files.exists(self._path.partition("/")[0]):
                    raise
                return []
        below = {name.removeprefix(self._path).strip("/") for name in found}
        return sorted(below - {""})

    def read(self, name: str) -> bytes | None:
        with self._errors():
            try:
                content: bytes = self._files.cat_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return None
        return content

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        with self._errors():
            file = self._files.open(f"{self._path}/{name}", "rb")
        with file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="overlock-batch-part-") as folder:
            path = Path(folder, name)
            yield path
            with self._errors():
                self._files.put_file(str(path), f"{self._path}/{name}")

    def remove(self, name: str) -> None:
        with self._errors():
            try:
                self._files.rm_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def claim(self, shard: Shard) -> Iterator[None]:
        yield
