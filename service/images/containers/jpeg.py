"""JPEG: the segments before the first scan, and the number of scans."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from service.api.errors import InvalidImageError
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_PIECES, FirstFrame

MAX_SCANS = 32
"""Maximum number of scans of a file; encoders write about ten. A progressive file with few bytes a
scan would keep the decoder busy for hours."""

MAX_HEADER_BYTES = 256 * 1024
"""Maximum bytes of tables before the first scan; four of each kind take 3 KB."""

START_OF_IMAGE = b"\xff\xd8"
END_OF_IMAGE, START_OF_SCAN, APPLICATION_1 = 0xD9, 0xDA, 0xE1
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Huffman and arithmetic tables, quantisation, restart interval; JFIF and Adobe name the colours.
DRAWING = FRAME_HEADERS | {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}

# All but stuffed zeros, restart markers, starts of image and fill bytes.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")


def read_jpeg(body: bytes) -> FirstFrame:
    """Keep frame header, tables and scans; a picture appended to the file is not counted.

    Raises:
        struct.error: the file is truncated.
    """
    kept = [START_OF_IMAGE]
    sizes: list[tuple[int, int]] = []
    exif, scans, first_scan = b"", 0, len(body)
    for marker, start, end in _segments(body):
        if marker == START_OF_SCAN:
            scans, first_scan = scans + 1, min(first_scan, start)
        elif scans == 0 and marker in DRAWING:
            kept.append(body[start:end])
            if marker in FRAME_HEADERS:
                sizes.append(struct.unpack_from(">HH", body, start + 5))
        elif marker == APPLICATION_1 and body.startswith(b"Exif\0\0", start + 4):
            exif = exif or body[start + 4 : end]
    if len(sizes) != 1 or scans == 0 or sum(map(len, kept)) > MAX_HEADER_BYTES:
        raise InvalidImageError("The JPEG file is damaged or truncated: its header is not whole.")
    if scans > MAX_SCANS:
        raise InvalidImageError(f"The JPEG file has {scans} scans; the limit is {MAX_SCANS}.")
    kept.append(body[first_scan:])
    ((height, width),) = sizes
    return FirstFrame(b"".join(kept), width, height, orientation=exif_orientation(exif))


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's marker, start and end, up to the end of the image or of the file."""
    position = len(START_OF_IMAGE)
    for _ in range(MAX_PIECES):
        found = _MARKER.search(body, position)
        if found is None or found[1][0] == END_OF_IMAGE:
            return
        (length,) = struct.unpack_from(">H", body, found.end())
        position = found.end() + max(length, 2)
        yield found[1][0], found.start(), position
    raise InvalidImageError(f"The JPEG file has more than {MAX_PIECES} segments.")
