"""TIFF directories, which EXIF and TIFF share, and EXIF's orientation."""

from __future__ import annotations

import struct
from typing import NamedTuple

ORIENTATION = 274
SHORT = 3


class Entry(NamedTuple):
    """One tag of a directory; ``value_field`` holds its values, or their offset if longer."""

    tag: int
    kind: int
    values: int
    value_field: bytes


def byte_order(data: bytes) -> str | None:
    """Return the ``struct`` prefix of classic TIFF data, None for other data."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])


def read_directory(data: bytes, offset: int, order: str) -> tuple[list[Entry], int]:
    """Return a directory's entries and the offset of the next one, 0 after the last.

    Raises:
        struct.error: the directory does not lie within the data.
    """
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    end = offset + 2 + 12 * count
    (following,) = struct.unpack_from(f"{order}I", data, end)
    entries = struct.iter_unpack(f"{order}HHI4s", data[offset + 2 : end])
    return [Entry(*entry) for entry in entries], following


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; 1, upright, if EXIF is broken or states none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = byte_order(exif)
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        entries, _ = read_directory(exif, offset, order)
    except struct.error:
        return 1
    return orientation_among(entries, order)


def orientation_among(entries: list[Entry], order: str) -> int:
    """Return the orientation that a directory states, 1 if it is missing or invalid."""
    for entry in entries:
        if entry.tag == ORIENTATION and entry.kind == SHORT:
            (value,) = struct.unpack_from(f"{order}H", entry.value_field)
            return int(value) if 1 <= value <= 8 else 1
    return 1
