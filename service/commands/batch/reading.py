"""Reading of images' bytes, wherever they are, some of them ahead."""

from __future__ import annotations

import stat
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.parquet as pq

from model.images.prefetch import prefetch
from service.commands.batch.buckets import bucket_errors, files_of, is_bucket
from service.commands.batch.containers import BYTES_COLUMN, opened
from service.commands.batch.items import ImageItem
from service.commands.console.exits import RefusedError
from service.commands.predict.outcome import Failure, unreadable
from service.commands.predict.sources import SourceError

AHEAD = 8
"""Images that are read, in threads, while others are decoded: those of buckets, and slow files."""

SLOW_SHARE = 0.25
"""Share of an image's decoding that reading its file may take without threads, which cost a decoder
time even if they have little to do."""

TIMED, LEAST_TIMED = 16, 4
"""Files by whose medians that is judged: the last ones; and the fewest. Every chunk's first file is
one of them, so that a disk may become quick or slow."""

KEPT_ROW_GROUP_BYTES = 256 * 2**20
"""A row group of a Parquet file up to this size is read once and kept; of a larger one only the
rows that are needed are kept, and it is read again for the next ones."""


class ItemReader:
    """Reads images. Keeps the row group of a Parquet file that it has read last."""

    def __init__(self) -> None:
        self._kept: tuple[str, int, list[bytes | None]] | None = None
        # Seconds of reading a file here, and from then to the next one.
        self._times: deque[tuple[float, float]] = deque(maxlen=TIMED)

    def bodies(self, items: Sequence[ImageItem]) -> Iterator[bytes | Failure]:
        """Yield the files of items, in order, or the reasons why there are none.

        Raises:
            RemoteError: if a bucket cannot be reached, or refuses; its images may be readable.
        """
        rows = [item for item in items if item.row is not None]
        found = dict(zip(rows, self._rows(rows), strict=True)) if rows else {}
        read = self._files([item for item in items if item.row is None])
        for item in items:
            yield found[item] if item.row is not None else next(read)

    def _files(self, items: Sequence[ImageItem]) -> Iterator[bytes | Failure]:
        """Yield files, the members of tars among them, or objects, in order."""
        is_remote = any(is_bucket(item.address) for item in items)
        for number, item in enumerate(items):
            if is_remote or (number and self._is_slow()):
                yield from prefetch(_read, items[number:], AHEAD)
                return
            started = perf_counter()
            body = _read(item)
            read = perf_counter()
            yield body
            self._times.append((read - started, perf_counter() - read))

    def _is_slow(self) -> bool:
        if len(self._times) < LEAST_TIMED:
            return False
        reading = statistics.median(seconds for seconds, _ in self._times)
        return reading > SLOW_SHARE * statistics.median(seconds for _, seconds in self._times)

    def _rows(self, items: Sequence[ImageItem]) -> Iterator[bytes | Failure]:
        for item in items:
            try:
                body = self._row(item)
            except (RefusedError, OSError, pa.ArrowException, IndexError) as error:
                yield Failure("unreadable", f"The Parquet file cannot be read: {error}")
                continue
            yield Failure("unreadable", "The row has no bytes.") if body is None else body

    def _row(self, item: ImageItem) -> bytes | None:
        assert item.row is not None
        if self._kept is not None:
            address, start, bodies = self._kept
            if address == item.address and start <= item.row < start + len(bodies):
                return bodies[item.row - start]
        with opened(item.address) as file:
            parquet, start = pq.ParquetFile(file), 0
            for group in range(parquet.num_row_groups):
                facts = parquet.metadata.row_group(group)
                if item.row < start + facts.num_rows:
                    return self._from_group(parquet, group, item, start)
                start += facts.num_rows
        raise IndexError(f"it has {start} rows")

    def _from_group(
        self, parquet: pq.ParquetFile, group: int, item: ImageItem, start: int
    ) -> bytes | None:
        assert item.row is not None
        if parquet.metadata.row_group(group).total_byte_size <= KEPT_ROW_GROUP_BYTES:
            column = parquet.read_row_group(group, columns=[BYTES_COLUMN]).column(0)
            self._kept = item.address, start, column.to_pylist()
            return self._kept[2][item.row - start]
        for batch in parquet.iter_batches(64, row_groups=[group], columns=[BYTES_COLUMN]):
            if item.row < start + batch.num_rows:
                self._kept = item.address, start, batch.column(0).to_pylist()
                return self._kept[2][item.row - start]
            start += batch.num_rows
        raise IndexError("its row group is shorter than it says")


def _read(item: ImageItem) -> bytes | Failure:
    """Read a file, a tar's member or an object."""
    try:
        body = _read_object(item) if is_bucket(item.address) else _read_file(item)
    except (SourceError, OSError) as error:
        return unreadable(error)
    if item.size is not None and len(body) != item.size:
        return Failure(
            "unreadable",
            f"It has changed since it was listed: {len(body)} bytes now, {item.size} then.",
        )
    return body


def _read_file(item: ImageItem) -> bytes:
    path = Path(item.address)
    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError("It is a folder, a pipe or a device, and no file.")  # a pipe would block
    if item.offset is None:
        with path.open("rb", buffering=0) as whole:
            return whole.readall()
    with path.open("rb") as file:
        file.seek(item.offset)
        return file.read(item.size or 0)


def _read_object(item: ImageItem) -> bytes:
    files, path = files_of(item.address)
    with bucket_errors(item.address):
        try:
            if item.offset is None:
                body: bytes = files.cat_file(path)
            else:
                end = item.offset + (item.size or 0)
                body = files.cat_file(path, start=item.offset, end=end)
        except FileNotFoundError as error:
            raise SourceError(f"There is no object {item.address}.") from error
    return body
