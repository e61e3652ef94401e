"""The images of a run: a sorted table without duplicates, of where each image's bytes are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("address", pa.binary(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("stamp", pa.string()),
    ]
)
"""The columns of a listing, one row an image; ``ImageItem`` says what they mean. An address is in
bytes, since a file's name need not be UTF-8."""


@dataclass(frozen=True, slots=True)
class ImageItem:
    """An image, and where its bytes are.

    Attributes:
        path: its name in the results: the file as it was named; ``TAR/MEMBER`` of a member of a
            tar; ``FILE#ROW`` of a row in a Parquet file.
        address: the file that has its bytes: an absolute path, or ``s3://`` or ``gs://``.
        offset: where they begin, of a member of a tar; None for others.
        size: their number; None where it is unknown, and of a file that is missing.
        row: of a Parquet file, from 0; None for others.
        stamp: changes with the file: its time of change, or a bucket's ETag; None where it is
            unknown.
    """

    path: str
    address: str
    offset: int | None = None
    size: int | None = None
    row: int | None = None
    stamp: str | None = None

    @property
    def place(self) -> tuple[str, int]:
        """What no other image shares: the file, and the position in it."""
        return self.address, self.offset or self.row or 0

    @property
    def is_missing(self) -> bool:
        """Tell whether there is no such file: nothing else has neither size nor row nor stamp."""
        return self.size is None and self.row is None and "://" not in self.address


def listing_of(items: Iterable[ImageItem]) -> pa.Table:
    """Sort items by their places, leave out those whose bytes are an earlier one's."""
    seen: set[tuple[str, int]] = set()
    kept: list[ImageItem] = []
    for item in sorted(items, key=lambda item: (item.place, item.path)):
        if item.place not in seen:
            seen.add(item.place)
            kept.append(item)
    columns = [[getattr(item, name) for item in kept] for name in LISTING_SCHEMA.names]
    addresses = [os.fsencode(item.address) for item in kept]
    shown = [os.fsencode(item.path).decode("utf-8", "backslashreplace") for item in kept]
    columns[:2] = shown, addresses
    return pa.table(
        [
            pa.array(column, field.type)
            for column, field in zip(columns, LISTING_SCHEMA, strict=True)
        ],
        schema=LISTING_SCHEMA,
    )


def items_of(listing: pa.Table) -> Iterator[ImageItem]:
    """Yield the items of a listing, or of a part of one."""
    for row in listing.to_pylist():
        yield ImageItem(**row | {"address": os.fsdecode(row["address"])})


def packed(listing: pa.Table) -> bytes:
    """Return a part of a listing as one value, a small part of what Python's objects take."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, listing.schema) as stream:
        stream.write_table(listing)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def unpacked(content: bytes) -> list[ImageItem]:
    """Return the items of what ``packed`` has made."""
    return list(items_of(pa.ipc.open_stream(content).read_all()))


def digest_of(listing: pa.Table) -> str:
    """Return the SHA-256 of a listing: of names, sizes and stamps, not of how it is stored."""
    digest = hashlib.sha256()
    for batch in listing.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            digest.update(b"\0".join(map(_encoded, row)) + b"\n")
    return digest.hexdigest()


def _encoded(value: str | bytes | int | None) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()
