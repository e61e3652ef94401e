"""Boxes of the ISO base media file format, and the items that AVIF and HEIC keep in them.

Source: ISO/IEC 14496-12, 4.2 and 8.11, and ISO/IEC 23008-12, 6 and 9, which
github.com/strukturag/libheif reads too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from service.api.errors import InvalidImageError

MAX_BOXES = 10_000
"""Maximum number of boxes in one box."""

MAX_ITEMS = 4_096
"""Maximum number of items of a file (pictures, tiles, metadata), and of properties."""

MAX_EXTENTS = 1_024
"""Maximum number of pieces that an item lies in."""

IN_FILE, IN_META = 0, 1


class Property(NamedTuple):
    """A property of an item: its box's type and content, and whether a reader has to know it."""

    kind: bytes
    data: bytes
    is_essential: bool


@dataclass
class Item:
    """An item: a picture, a tile of one, or metadata.

    Attributes:
        kind: such as ``av01``, ``hvc1`` or ``grid``.
        properties: in the order in which they apply.
        extents: its pieces in the file, as start and end; empty if the file lacks it.
        references: numbers of other items, by the reference's type.
    """

    kind: bytes = b""
    properties: list[Property] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)

    def first(self, kind: bytes) -> bytes | None:
        """Return the content of the first property of a type, None if there is none."""
        return next((each.data for each in self.properties if each.kind == kind), None)

    def content(self, body: bytes) -> bytes:
        """Return the item's bytes.

        Raises:
            InvalidImageError: the file does not hold all of them.
        """
        if not self.extents or any(end > len(body) for _, end in self.extents):
            raise InvalidImageError("The file is truncated: a part of its picture is missing.")
        if sum(end - start for start, end in self.extents) > len(body):
            raise InvalidImageError("The file is damaged: the parts of its picture overlap.")
        return b"".join(body[start:end] for start, end in self.extents)


def boxes(body: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box's type, and where its content starts and ends.

    Raises:
        InvalidImageError: a box does not lie in the box around it.
        struct.error: it is truncated.
    """
    for _ in range(MAX_BOXES):
        if start >= end:
            return
        size, kind = struct.unpack_from(">I4s", body, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", body, content)
            content += 8
        stop = end if size == 0 else start + size
        if not content <= stop <= end:
            raise InvalidImageError("The file is damaged or truncated: a box is longer than it.")
        yield kind, content, stop
        start = stop
    raise InvalidImageError(f"The file has more than {MAX_BOXES} boxes in one.")


def child(body: bytes, start: int, end: int, *path: bytes) -> tuple[int, int] | None:
    """Return where the content of the first box of these types, one in the other, lies."""
    for wanted in path:
        found = next((box[1:] for box in boxes(body, start, end) if box[0] == wanted), None)
        if found is None:
            return None
        start, end = found
    return start, end


def read_items(body: bytes, start: int, end: int) -> tuple[dict[int, Item], int]:
    """Read a ``meta`` box's content.

    Returns:
        The items by number, and the primary item's number.

    Raises:
        InvalidImageError: the box is damaged.
        struct.error, IndexError: it is truncated.
    """
    parts = {kind: (inner, stop) for kind, inner, stop in boxes(body, start + 4, end)}
    if not {b"pitm", b"iinf", b"iloc", b"iprp"} <= parts.keys():
        raise InvalidImageError("The file is damaged or truncated: it names no picture.")
    items = _kinds(body, *parts[b"iinf"])
    _extents(items, body, *parts[b"iloc"], parts.get(b"idat", (0, 0)))
    _properties(items, body, *parts[b"iprp"])
    if b"iref" in parts:
        _references(items, body, *parts[b"iref"])
    at = parts[b"pitm"][0]
    (primary,) = struct.unpack_from(">I" if body[at] else ">H", body, at + 4)
    if primary not in items:
        raise InvalidImageError("The file is damaged: it does not hold its picture.")
    return items, primary


def _kinds(body: bytes, start: int, end: int) -> dict[int, Item]:
    items: dict[int, Item] = {}
    for kind, inner, _ in boxes(body, start + (8 if body[start] else 6), end):
        if kind == b"infe" and body[inner] >= 2:
            layout = ">HH4s" if body[inner] == 2 else ">IH4s"
            number, _, item_kind = struct.unpack_from(layout, body, inner + 4)
            items.setdefault(number, Item()).kind = item_kind
        if len(items) > MAX_ITEMS:
            raise InvalidImageError(f"The file has more than {MAX_ITEMS} items.")
    return items


def _extents(
    items: dict[int, Item], body: bytes, start: int, end: int, idat: tuple[int, int]
) -> None:
    version = body[start]
    sizes, more_sizes = body[start + 4], body[start + 5]
    widths = {"offset": sizes >> 4, "length": sizes & 15, "base": more_sizes >> 4}
    index_bytes = more_sizes & 15 if version else 0
    number_bytes = 4 if version == 2 else 2
    position = start + 6

    def number(size: int) -> int:
        nonlocal position
        if position + size > end:
            raise struct.error("the box ends")
        position += size
        return int.from_bytes(body[position - size : position], "big")

    for _ in range(min(number(number_bytes), MAX_ITEMS)):
        item = items.setdefault(number(number_bytes), Item())
        method = number(2) & 15 if version else IN_FILE
        number(2)  # of another file, which nothing is read from
        base, count = number(widths["base"]), number(2)
        if count > MAX_EXTENTS:
            raise InvalidImageError(f"An item lies in {count} pieces; the limit is {MAX_EXTENTS}.")
        if method == IN_META:
            base += idat[0]
        for _ in range(count):
            number(index_bytes)
            first = base + number(widths["offset"])
            # Without a length the piece goes to the end.
            stop = first + (number(widths["length"]) or len(body) - first)
            if method in (IN_FILE, IN_META):
                item.extents.append((first, max(first, stop)))


def _properties(items: dict[int, Item], body: bytes, start: int, end: int) -> None:
    container = child(body, start, end, b"ipco")
    if container is None:
        raise InvalidImageError("The file is damaged: its picture has no properties.")
    known = [(kind, body[inner:stop]) for kind, inner, stop in boxes(body, *container)]
    if len(known) > MAX_ITEMS:
        raise InvalidImageError(f"The file has more than {MAX_ITEMS} properties.")
    for kind, inner, stop in boxes(body, start, end):
        if kind != b"ipma":
            continue
        is_wide, position = body[inner + 3] & 1, inner + 8
        (count,) = struct.unpack_from(">I", body, inner + 4)
        for _ in range(min(count, MAX_ITEMS)):
            layout = ">IB" if body[inner] else ">HB"
            number, associations = struct.unpack_from(layout, body, position)
            position += struct.calcsize(layout)
            for _ in range(associations):
                (index,) = struct.unpack_from(">H" if is_wide else "B", body, position)
                position += 1 + is_wide
                highest = 0x8000 if is_wide else 0x80
                place = index % highest
                if position > stop or place > len(known):
                    raise InvalidImageError("The file is damaged: a property is missing.")
                if place and number in items:
                    kind, data = known[place - 1]
                    items[number].properties.append(Property(kind, data, index >= highest))


def _references(items: dict[int, Item], body: bytes, start: int, end: int) -> None:
    layout = ">I" if body[start] else ">H"
    size = struct.calcsize(layout)
    for kind, inner, stop in boxes(body, start + 4, end):
        (source,) = struct.unpack_from(layout, body, inner)
        (count,) = struct.unpack_from(">H", body, inner + size)
        first = inner + size + 2
        if first + count * size > stop:
            raise InvalidImageError("The file is damaged: a reference is cut.")
        numbers = [n for (n,) in struct.iter_unpack(layout, body[first : first + count * size])]
        if source in items:
            items[source].references.setdefault(kind, []).extend(numbers)
