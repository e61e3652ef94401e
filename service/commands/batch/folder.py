"""The output folder: files that appear whole, on this machine or in a bucket."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from model.remote.addresses import RemoteError
from service.commands.batch.buckets import bucket_errors, check_place, files_of, is_bucket
from service.commands.batch.file_names import is_of
from service.commands.batch.locked_folders import locked, sweep
from service.commands.batch.plan import Shard
from service.commands.console.exits import RefusedError

PART_PREFIX = "overlock-batch-part-"
"""Of a temporary folder with a file for a bucket."""


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
    def has(self, name: str) -> bool:
        """Tell whether there is a file, or a folder, of a name."""

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
    def writing_folder(self, name: str) -> Any:
        """Yield a folder to write to; it gets its name at the end of the ``with`` statement.

        In a bucket its objects appear as they are written: the last one has to say that it is
        whole. On a disk, nothing is left of it if the statement raises.
        """

    @abstractmethod
    def put(self, files: Mapping[str, bytes]) -> None:
        """Write small files, also below folders, at once in a bucket.

        On a disk they are safe only with the folder that ``writing_folder`` yields.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it; one that is not there is no error."""

    @abstractmethod
    def holds(self, address: str) -> bool:
        """Tell whether a path or an object's address is the folder's own or lies below it."""

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


def output_folder(name: str) -> OutputFolder:
    """Return the folder of a name; it is made when it is first written to."""
    if not name:
        raise RefusedError("--output is empty; it has to name a folder.")
    check_place(name)
    return _BucketFolder(name) if is_bucket(name) else _LocalFolder(name)


class _LocalFolder(OutputFolder):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Ray changes the working folder for a moment.
        self._path = Path(os.path.abspath(name))  # noqa: PTH100
        self._path.mkdir(parents=True, exist_ok=True)
        # Files are many, the folders that they lie in few.
        self._is_below = lru_cache(maxsize=1024)(partial(_is_below, self._path))

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def has(self, name: str) -> bool:
        return (self._path / name).exists()

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def opened(self, name: str) -> Any:
        return (self._path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        path = self._unfinished(name)
        try:
            yield path
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(self._path / name)
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def writing_folder(self, name: str) -> Iterator[OutputFolder]:
        path = self._unfinished(name)
        try:
            yield _LocalFolder(str(path))
            os.sync()  # of many small files, much faster than one by one
            path.replace(self._path / name)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def put(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            path = self._path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        path = self._path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def holds(self, address: str) -> bool:
        if is_bucket(address):
            return False
        path = os.path.abspath(address)  # noqa: PTH100 - a link is no file of its target's folder
        return path == str(self._path) or self._is_below(os.path.dirname(path))  # noqa: PTH120

    def _unfinished(self, name: str) -> Path:
        return self._path / f".{name.removeprefix('.')}.{os.getpid()}.tmp"

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


def _is_below(folder: Path, other: str) -> bool:
    """Tell whether a folder is another one, or lies below it, by its own path or by links."""
    return Path(other).is_relative_to(folder) or Path(other).resolve().is_relative_to(
        folder.resolve()
    )


class _BucketFolder(OutputFolder):
    """A prefix in a bucket, which has no rename: an object appears whole with its last byte."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        sweep(Path(tempfile.gettempdir()), PART_PREFIX)
        self._files, path = files_of(name)
        self._path = path.rstrip("/")
        self._scheme = name.partition("://")[0].lower()

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

    def has(self, name: str) -> bool:
        with self._errors():
            return bool(self._files.exists(f"{self._path}/{name}"))

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
        with tempfile.TemporaryDirectory(prefix=PART_PREFIX) as folder, locked(Path(folder)):
            path = Path(folder, name)
            yield path
            with self._errors():
                self._files.put_file(str(path), f"{self._path}/{name}")

    @contextmanager
    def writing_folder(self, name: str) -> Iterator[OutputFolder]:
        yield _BucketFolder(f"{self.name.rstrip('/')}/{name}")

    def put(self, files: Mapping[str, bytes]) -> None:
        with self._errors():
            self._files.pipe({f"{self._path}/{name}": body for name, body in files.items()})

    def remove(self, name: str) -> None:
        path = f"{self._path}/{name}"
        with self._errors():
            try:
                self._files.rm(path, recursive=self._files.isdir(path))
            except FileNotFoundError:
                return

    def holds(self, address: str) -> bool:
        scheme, _, path = address.partition("://")
        return scheme.lower() == self._scheme and f"{path}/".startswith(f"{self._path}/")

    @contextmanager
    def claim(self, shard: Shard) -> Iterator[None]:
        yield
