"""Files that hold many images: WebDataset's tars, and Parquet files with paths or bytes."""

from __future__ import annotations

import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.remote.addresses import RemoteError
from service.commands.batch.buckets import bucket_errors, files_of, is_bucket, stat_object
from service.commands.batch.items import ImageItem
from service.commands.console.exits import RefusedError
from service.commands.predict.sources import IMAGE_SUFFIXES

BYTES_COLUMN, PATH_COLUMN = "bytes", "path"

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

READ_BLOCK_BYTES = 4 * 2**20
"""Read at a time of a remote tar, whose headers stand between its members."""


class Container(ABC):
    """A file that holds many images.

    Args:
        name: a path, or an address in a bucket.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = name if is_bucket(name) else os.path.abspath(name)  # noqa: PTH100

    @abstractmethod
    def items(self) -> Iterator[ImageItem]:
        """Yield its images.

        Raises:
            RefusedError: if it cannot be read.
        """


def container_of(name: str) -> Container | None:
    """Return the container that a name is of, by its suffix; None for an image's.

    Raises:
        RefusedError: for a compressed tar, in which no member can be found by its position.
    """
    lower = name.lower()
    if lower.endswith(COMPRESSED):
        raise RefusedError(f"{name} is a compressed tar, whose members cannot be read one by one.")
    if lower.endswith(".tar"):
        return TarFile(name)
    return ParquetFile(name) if lower.endswith(".parquet") else None


class TarFile(Container):
    """A tar whose members with an image's suffix are images."""

    def items(self) -> Iterator[ImageItem]:
        """Yield its images, found by their position; of members of one name the last."""
        found: dict[str, ImageItem] = {}
        with opened(self.address) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    for member in tar:
                        item = self._item_of(member)
                        if item is not None:
                            found[item.path] = item
                        tar.members = []  # type: ignore[attr-defined] # it would keep every header
                    # At a header that is damaged or cut off, the iteration ends as at the end.
                    file.seek(tar.offset)
                    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                        raise tarfile.ReadError(f"a bad header at byte {tar.offset}")
            except tarfile.TarError as error:
                raise RefusedError(f"{self.name} cannot be read as a tar: {error}.") from error
        yield from found.values()

    def _item_of(self, member: tarfile.TarInfo) -> ImageItem | None:
        name = PurePosixPath(member.name)
        hidden = name.name.startswith(".")
        if hidden or not member.isreg() or name.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        if member.issparse():
            raise RefusedError(f"{self.name}: {member.name} is sparse, which is not supported.")
        return ImageItem(
            f"{self.name}/{member.name}",
            self.address,
            offset=member.offset_data,
            size=member.size,
            stamp=str(member.mtime),
        )


class ParquetFile(Container):
    """A Parquet file with the images in a column ``bytes``, or their paths in a column ``path``."""

    def items(self) -> Iterator[ImageItem]:
        """Yield its images, a row each."""
        with opened(self.address) as file:
            try:
                parquet = pq.ParquetFile(file)
                columns = {field.name: field.type for field in parquet.schema_arrow}
                if _is_binary(columns.get(BYTES_COLUMN)):
                    stamp = self._stamp()
                    for row in range(parquet.metadata.num_rows):
                        yield ImageItem(f"{self.name}#{row}", self.address, row=row, stamp=stamp)
                elif PATH_COLUMN in columns:
                    yield from self._paths(parquet)
                else:
                    has = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
                    raise RefusedError(
                        f"{self.name} has no column {BYTES_COLUMN} of binary values and no column "
                        f"{PATH_COLUMN}; it has {has}."
                    )
            except pa.ArrowException as error:
                reason = str(error).rstrip(".")
                raise RefusedError(f"{self.name} cannot be read as Parquet: {reason}.") from error

    def _paths(self, parquet: pq.ParquetFile) -> Iterator[ImageItem]:
        for batch in parquet.iter_batches(columns=[PATH_COLUMN]):
            for path in batch.column(0).to_pylist():
                if not isinstance(path, str) or not path or "\0" in path:
                    raise RefusedError(f"{self.name}: the column {PATH_COLUMN} has {path!r}.")
                yield ImageItem(path, path)

    def _stamp(self) -> str | None:
        if is_bucket(self.address):
            found = stat_object(self.address)
            return None if found is None else found.stamp
        return str(Path(self.address).stat().st_mtime_ns)


def _is_binary(column: pa.DataType | None) -> bool:
    if isinstance(column, pa.DictionaryType):
        column = column.value_type
    return column is not None and (
        pa.types.is_binary(column)
        or pa.types.is_large_binary(column)
        or pa.types.is_fixed_size_binary(column)
        or pa.types.is_binary_view(column)
    )


@contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """Open a file or an object for reading.

    Raises:
        RefusedError: if it is not there or cannot be read.
    """
    if not is_bucket(address):
        with open(address, "rb") as file:  # noqa: PTH123 - as an object is opened
            yield file
        return
    try:
        files, path = files_of(address)
        with bucket_errors(address):
            remote: Any = files.open(path, "rb", block_size=READ_BLOCK_BYTES)
        with remote:
            yield remote
    except RemoteError as error:
        raise RefusedError(str(error)) from error
