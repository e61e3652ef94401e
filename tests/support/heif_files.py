"""Writer of AVIF and HEIC files around pictures that an encoder has made."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from support.image_references import Pixels

HEIC_FOLDER = Path(__file__).with_name("heic")
"""Files that x265 has made of ``scene`` and of ``ramp(256)``; it codes 64 x 64 pixels and crops."""

ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


@dataclass(frozen=True)
class Coded:
    """A coded picture.

    Attributes:
        kind: av01 or hvc1.
        configuration: the box of its codec.
        content: its bitstream.
        width: pixels.
        height: pixels.
    """

    kind: bytes
    configuration: bytes
    content: bytes
    width: int
    height: int


def coded_of(file: bytes) -> Coded:
    """Take the picture out of a file that holds one."""
    kind, name = (b"hvc1", b"hvcC") if b"hvcC" in file else (b"av01", b"av1C")
    at = file.index(name) - 4
    width, height = struct.unpack_from(">II", file, file.index(b"ispe") + 8)
    content = file[file.index(b"mdat") + 4 :]
    return Coded(
        kind, file[at : at + int.from_bytes(file[at : at + 4], "big")], content, width, height
    )


def coded_avif(pixels: Pixels) -> Coded:
    """Code a picture as AV1, nearly without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=98, subsampling="4:4:4")
    return coded_of(file.getvalue())


def heic_sample(name: str) -> bytes:
    """Return one of the files in ``HEIC_FOLDER``."""
    return (HEIC_FOLDER / f"{name}.heic").read_bytes()


def rotation(quarters: int) -> bytes:
    """Return the property that turns a picture anticlockwise."""
    return box(b"irot", bytes([quarters]))


def mirror(mode: int) -> bytes:
    """Return the property that exchanges top and bottom (0), or left and right (1)."""
    return box(b"imir", bytes([mode]))


def crop(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    """Return the clean aperture; the offsets, from centre to centre, are in half pixels."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 2, down, 2))


def heif_file(
    tiles: Sequence[Coded],
    *,
    grid: tuple[int, int, int, int] | None = None,
    properties: Sequence[bytes] = (),
    alpha: Coded | None = None,
    exif: bytes = b"",
    brand: bytes = b"",
) -> bytes:
    """Put a file together.

    Args:
        tiles: one picture, or those of the grid row by row.
        grid: rows, columns, and width and height of the whole.
        properties: boxes of the primary picture beside size and codec, in order.
        alpha: transparency.
        exif: metadata.
        brand: of the file; by default the codec's.
    """
    entries: list[tuple[bytes, bytes, list[bytes]]] = []
    references = b""
    for tile in tiles:
        size = full_box(b"ispe", struct.pack(">II", tile.width, tile.height))
        entries.append((tile.kind, tile.content, [size, tile.configuration]))
    if grid is None:
        entries[0][2].extend(properties)
        primary = 1
    else:
        rows, columns, width, height = grid
        content = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
        size = full_box(b"ispe", struct.pack(">II", width, height))
        entries.append((b"grid", content, [size, *properties]))
        primary = len(entries)
        numbers = range(1, len(tiles) + 1)
        references += box(b"dimg", struct.pack(f">HH{len(tiles)}H", primary, len(tiles), *numbers))
    if alpha is not None:
        size = full_box(b"ispe", struct.pack(">II", alpha.width, alpha.height))
        kind = full_box(b"auxC", ALPHA)
        entries.append((alpha.kind, alpha.content, [size, alpha.configuration, kind]))
        references += box(b"auxl", struct.pack(">HHH", len(entries), 1, primary))
    if exif:
        entries.append((b"Exif", struct.pack(">I", 6) + exif, []))
        references += box(b"cdsc", struct.pack(">HHH", len(entries), 1, primary))
    brand = brand or (b"avif" if tiles[0].kind == b"av01" else b"heic")
    file_type = box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    unplaced = _meta(entries, primary, references, 0)
    meta = _meta(entries, primary, references, len(file_type) + len(unplaced) + 8)
    return file_type + meta + box(b"mdat", b"".join(content for _, content, _ in entries))


def _meta(
    entries: Sequence[tuple[bytes, bytes, list[bytes]]], primary: int, references: bytes, at: int
) -> bytes:
    count = len(entries)
    names, places, known, associations = b"", b"", b"", b""
    index = 0
    for number, (kind, content, properties) in enumerate(entries, 1):
        names += full_box(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), version=2)
        places += struct.pack(">HHHII", number, 0, 1, at, len(content))
        at += len(content)
        known += b"".join(properties)
        indices = range(index + 1, index + 1 + len(properties))
        index += len(properties)
        if properties:
            associations += struct.pack(f">HB{len(properties)}B", number, len(properties), *indices)
    with_properties = sum(1 for _, _, properties in entries if properties)
    parts = [
        full_box(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iinf", struct.pack(">H", count) + names),
        full_box(b"iloc", b"\x44\0" + struct.pack(">H", count) + places),
        box(
            b"iprp",
            box(b"ipco", known)
            + full_box(b"ipma", struct.pack(">I", with_properties) + associations),
        ),
    ]
    if references:
        parts.append(full_box(b"iref", references))
    return full_box(b"meta", b"".join(parts))


def box(kind: bytes, content: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, content: bytes, *, version: int = 0) -> bytes:
    """Return a box with a version."""
    return box(kind, struct.pack(">I", version << 24) + content)
