"""One part: a Parquet file with what it was made of in its metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.commands.batch.folder import OutputFolder
from service.commands.batch.rows import PLAIN_COLUMNS, Row
from service.commands.console.exits import RefusedError

METADATA_KEY = b"overlock"

ROW_GROUP_ROWS, ROW_GROUP_BYTES = 2048, 64 * 2**20
"""A row group is written once it has either; the rest waits in memory."""

ROWS_AT_ONCE = 64
"""Rows that are read as Python's objects at a time."""


class PartWriter:
    """Writes a part's rows as they come. Used in a ``with`` statement.

    Args:
        path: of the file.
        schema: of the rows.
        identity: what the part is made of; it stands in the file's metadata.

    Attributes:
        images: rows so far.
        failed: of these, images without a result, by reason.
    """

    def __init__(self, path: Path, schema: pa.Schema, identity: dict[str, Any]) -> None:
        self.images = 0
        self.failed: Counter[str] = Counter()
        self._identity = identity
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=PLAIN_COLUMNS,
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
                counts = {"images": self.images, "failed": dict(sorted(self.failed.items()))}
                document = json.dumps(self._identity | counts, sort_keys=True)
                self._writer.add_key_value_metadata({METADATA_KEY: document.encode()})
        finally:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self.images += table.num_rows
        slugs = pc.struct_field(table.column("error"), "slug")
        self.failed.update(slug for slug in slugs.to_pylist() if slug is not None)
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        self._waiting_bytes += table.nbytes
        if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting = []
            self._waiting_rows = self._waiting_bytes = 0


def read_metadata(folder: OutputFolder, name: str) -> dict[str, Any] | None:
    """Return what a part of the folder was made of; None if it is of no such run, or damaged."""
    with folder.opened(name) as file:
        try:
            found = pq.read_metadata(file).metadata or {}
            document = json.loads(found.get(METADATA_KEY, b"null"))
        except (pa.ArrowException, ValueError):
            return None
    return document if isinstance(document, dict) else None


def rows_in(folder: OutputFolder, name: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a part, in order; memory holds a row group's columns at most.

    Args:
        folder: that has the part.
        name: of the part.
        columns: to read.

    Raises:
        RefusedError: if the part is damaged.
    """
    with folder.opened(name) as file:
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            for batch in part.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the system's, not Arrow's
            raise damaged(folder, name) from error


def damaged(folder: OutputFolder, name: str) -> RefusedError:
    """Return the error that says that a part or manifest is no such file."""
    return RefusedError(
        f"{folder.name} has {name}, which is damaged or of no such run; remove it, and the same "
        "command makes it again."
    )
