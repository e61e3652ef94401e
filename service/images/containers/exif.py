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


class Form(NamedTuple):
    """Widths of a TIFF file's numbers, as ``struct`` formats.

    Attributes:
        order: ``<`` or ``>``.
        entry: of an entry of a directory.
        entries: of the number of entries.
        offset: of an offset.
        first_at: position of the first directory's offset.
    """

    order: str
    entry: str = "HHI4s"
    entries: str = "H"
    offset: str = "I"
    first_at: int = 4


_FORMS = {
    b"II*\0": Form("<"),
    b"MM\0*": Form(">"),
    b"II+\0": Form("<", "HHQ8s", "Q", "Q", 8),
    b"MM\0+": Form(">", "HHQ8s", "Q", "Q", 8),
}


def form_of(data: bytes) -> Form | None:
    """Return the form of TIFF or BigTIFF data, None for other data."""
    return _FORMS.get(data[:4])


def read_directory(data: bytes, offset: int, form: Form) -> tuple[list[Entry], int]:
    """Return a directory's entries and the offset of the next one, 0 after the last.

    Raises:
        struct.error: the directory does not lie within the data.
    """
    start, end, following = directory_span(data, offset, form)
    entries = struct.iter_unpack(form.order + form.entry, data[start:end])
    return [Entry(*entry) for entry in entries], following


def directory_span(data: bytes, offset: int, form: Form) -> tuple[int, int, int]:
    """Return where a directory's entries start and end, and the offset of the next one.

    Raises:
        struct.error: the directory does not lie within the data.
    """
    if offset > len(data):
        raise struct.error("the directory is behind the end")
    (count,) = struct.unpack_from(form.order + form.entries, data, offset)
    start = offset + struct.calcsize(form.order + form.entries)
    end = start + struct.calcsize(form.order + form.entry) * count
    if end > len(data):
        raise struct.error("the directory is longer than the data")
    (following,) = struct.unpack_from(form.order + form.offset, data, end)
    return start, end, following


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; 1, upright, if EXIF is broken or states none."""
    exif = exif.removeprefix(b"Exif\0\0")
    form = form_of(exif)
    if form is None:
        return 1
    try:
        (offset,) = struct.unpack_from(form.order + form.offset, exif, form.first_at)
        entries, _ = read_directory(exif, offset, form)
    except struct.error:
        return 1
    return orientation_among(entries, form.order)


def orientation_among(entries: list[Entry], order: str) -> int:
    """Return the orientation that a directory states, 1 if it is missing or invalid."""
    for entry in entries:
        if entry.tag == ORIENTATION and entry.kind == SHORT:
            (value,) = struct.unpack_from(f"{order}H", entry.value_field)
            return int(value) if 1 <= value <= 8 else 1
    return 1
