"""A new HEIF file of some of another's items, with the properties that decoders need."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from service.images.containers.boxes import Item, Property

BRANDS = {"AVIF": b"avif", "HEIC": b"heic"}
REFERENCES = (b"dimg", b"auxl", b"prem")
NOMINAL_COLOURS = b"nclx"


def written(
    items: Mapping[int, Item],
    contents: Mapping[int, bytes],
    primary: int,
    kept: frozenset[bytes],
    format_name: str,
) -> bytes:
    """Write a file.

    Args:
        items: by number.
        contents: of each item.
        primary: number of the picture.
        kept: the types of the properties to write; of colours the profiles are left out.
        format_name: AVIF or HEIC.
    """
    brand = BRANDS[format_name]
    file_type = _box(b"ftyp", brand + bytes(4) + b"mif1miaf" + brand)
    # Its length does not depend on the offsets.
    meta_bytes = len(_meta(items, contents, primary, kept, 0))
    return b"".join(
        (
            file_type,
            _meta(items, contents, primary, kept, len(file_type) + meta_bytes + 8),
            _box(b"mdat", b"".join(contents.values())),
        )
    )


def _meta(
    items: Mapping[int, Item],
    contents: Mapping[int, bytes],
    primary: int,
    kept: frozenset[bytes],
    content_at: int,
) -> bytes:
    names, places = b"", b""
    for number, item in items.items():
        names += _full_box(b"infe", 3, struct.pack(">IH4sB", number, 0, item.kind, 0))
        size = len(contents[number])
        places += struct.pack(">IHHHII", number, 0, 0, 1, content_at, size)
        content_at += size
    parts = [
        _full_box(b"hdlr", 0, bytes(4) + b"pict" + bytes(13)),
        _full_box(b"pitm", 1, struct.pack(">I", primary)),
        _full_box(b"iinf", 1, struct.pack(">I", len(items)) + names),
        _full_box(b"iloc", 2, b"\x44\0" + struct.pack(">I", len(items)) + places),
        _properties(items, kept),
        _references(items),
    ]
    return _full_box(b"meta", 0, b"".join(parts))


def _properties(items: Mapping[int, Item], kept: frozenset[bytes]) -> bytes:
    known: dict[Property, int] = {}
    associations = b""
    for number, item in items.items():
        chosen = [each for each in item.properties if _is_kept(each, kept)]
        places = [known.setdefault(each, len(known) + 1) for each in chosen]
        essential = [0x8000 if each.is_essential else 0 for each in chosen]
        indices = [place | flag for place, flag in zip(places, essential, strict=True)]
        associations += struct.pack(f">IB{len(indices)}H", number, len(indices), *indices)
    boxes = b"".join(_box(each.kind, each.data) for each in known)
    count = struct.pack(">I", len(items))
    association = _full_box(b"ipma", 1, count + associations, flags=1)
    return _box(b"iprp", _box(b"ipco", boxes) + association)


def _is_kept(each: Property, kept: frozenset[bytes]) -> bool:
    return each.kind in kept or (each.kind == b"colr" and each.data.startswith(NOMINAL_COLOURS))


def _references(items: Mapping[int, Item]) -> bytes:
    references = b""
    for number, item in items.items():
        for kind in REFERENCES:
            targets = [target for target in item.references.get(kind, ()) if target in items]
            if targets:
                layout = f">IH{len(targets)}I"
                references += _box(kind, struct.pack(layout, number, len(targets), *targets))
    return _full_box(b"iref", 1, references) if references else b""


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full_box(kind: bytes, version: int, content: bytes, *, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + content)
