"""JPEG: the segments before the first scan, what the scans deliver, and a decoder that tells.

libjpeg fills what a scan does not deliver with zeros and warns. Pillow hides the warnings;
simplejpeg, which is libjpeg-turbo too and gives the same bits, raises them as errors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import simplejpeg
from PIL import Image

from model.images.pillow_memory import image_over
from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_PIECES, FirstFrame
from service.images.pillow import open_image, to_rgb

MAX_SCANS = 32
"""Maximum number of scans of a file; encoders write about ten. A progressive file with few bytes a
scan would keep the decoder busy for hours."""

MAX_HEADER_BYTES = 256 * 1024
"""Maximum bytes of tables before the first scan; four of each kind take 3 KB."""

START_OF_IMAGE, END_OF_IMAGE_BYTES = b"\xff\xd8", b"\xff\xd9"
END_OF_IMAGE, START_OF_SCAN, NUMBER_OF_LINES, APPLICATION_1 = 0xD9, 0xDA, 0xDC, 0xE1
JFIF, ADOBE = 0xE0, 0xEE
SEQUENTIAL, PROGRESSIVE, JPEG_LS = frozenset({0xC0, 0xC1}), frozenset({0xC2}), 0xF7
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {JPEG_LS}
REFUSED_FRAMES = {
    0xC3: "Lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "Hierarchical JPEG"),
    # Its decoder reads zeros behind the end without a word: a cut could not be told.
    **dict.fromkeys((0xC9, 0xCA), "Arithmetic-coded JPEG"),
    0xCB: "Lossless arithmetic-coded JPEG",
    JPEG_LS: "JPEG-LS",
}
# Huffman tables, quantisation, restart interval; JFIF and Adobe name the colours.
DRAWING = FRAME_HEADERS | {0xC4, 0xCC, 0xDB, 0xDD, JFIF, ADOBE}

JFIF_SEGMENT = b"\xff\xe0\0\x10JFIF\0\1\2\0\0\1\0\1\0\0"
ADOBE_TRANSFORM_AT = 15

REDUCTIONS = (8, 4, 2)
"""Factors by which libjpeg reduces an image while it decodes it (its DCTs' halves)."""

FILLER = b"\xb5\x9a" * 32
"""Bytes that differ from the zeros that libjpeg reads behind the end of a scan."""

# All but stuffed zeros, restart markers, starts of image and fill bytes.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# TurboJPEG knows six subsamplings of the colours, and stops at idle bytes behind a scan.
_MAYBE_INTACT = re.compile(r"subsampling level|extraneous bytes before marker 0x(?!d[0-7])")


class _Header(NamedTuple):
    marker: int
    precision: int
    height: int
    width: int
    components: list[int]


def read_jpeg(body: bytes) -> FirstFrame:
    """Keep frame header, tables and scans; a picture appended to the file is not counted.

    Raises:
        UnsupportedMediaError: an intact kind of JPEG that is not decoded.
        InvalidImageError: the file is damaged, or its scans do not deliver every coefficient.
        struct.error: the file is truncated.
    """
    kept = [START_OF_IMAGE]
    headers: list[_Header] = []
    scans: list[int] = []
    exif, has_lines_behind = b"", False
    for marker, start, end in _segments(body):
        if marker == START_OF_SCAN:
            scans.append(start)
        elif not scans and marker in DRAWING:
            kept.append(body[start:end])
            if marker in FRAME_HEADERS:
                headers.append(_header(marker, body[start:end]))
        elif marker == APPLICATION_1 and body.startswith(b"Exif\0\0", start + 4):
            exif = exif or body[start + 4 : end]
        has_lines_behind |= marker == NUMBER_OF_LINES
    if len(headers) == 1:
        _check_kind(headers[0], has_lines_behind=has_lines_behind)
    if len(headers) != 1 or not scans or sum(map(len, kept)) > MAX_HEADER_BYTES:
        raise InvalidImageError("The JPEG file is damaged or truncated: its header is not whole.")
    if len(scans) > MAX_SCANS:
        raise InvalidImageError(f"The JPEG file has {len(scans)} scans; the limit is {MAX_SCANS}.")
    (header,) = headers
    kept = [_plain(segment, len(header.components)) for segment in kept]
    kept.append(_checked_scans(body, scans, header))
    return FirstFrame(
        width=header.width,
        height=header.height,
        draw=partial(_draw, b"".join(kept), (header.width, header.height), len(header.components)),
        orientation=exif_orientation(exif) if exif else 1,
    )


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


def _plain(segment: bytes, components: int) -> bytes:
    """Return JFIF's or Adobe's segment in the form that libjpeg reads it in without a warning."""
    marker, name = segment[1], segment[4:9]
    if marker == JFIF:
        return JFIF_SEGMENT if name == b"JFIF\0" and len(segment) >= len(JFIF_SEGMENT) else b""
    if marker == ADOBE and name == b"Adobe" and any(segment[ADOBE_TRANSFORM_AT:16]):
        # What else than 0 it may be follows from the number of components.
        return segment[:ADOBE_TRANSFORM_AT] + (b"\2" if components == 4 else b"\1") + segment[16:]
    return segment


def _header(marker: int, segment: bytes) -> _Header:
    precision, height, width, count = struct.unpack_from(">BHHB", segment, 4)
    numbers = list(struct.unpack_from(f"{3 * count}B", segment, 10)[::3])
    return _Header(marker, precision, height, width, numbers)


def _check_kind(header: _Header, *, has_lines_behind: bool) -> None:
    kind = REFUSED_FRAMES.get(header.marker)
    if kind is None and header.precision != 8:
        kind = f"{header.precision}-bit JPEG"
    if kind is None and len(header.components) not in (1, 3, 4):
        kind = f"JPEG with {len(header.components)} components"
    if kind is None and header.height == 0 and has_lines_behind:
        kind = "JPEG with its height behind the pixels"
    if kind is not None:
        raise UnsupportedMediaError(f"{kind} is not supported.")


def _checked_scans(body: bytes, scans: list[int], header: _Header) -> bytes:
    """Check that the scans deliver every bit of every coefficient, and return them.

    libjpeg leaves at zero what no scan names, without a warning.

    Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.3 and G.1.1.1.
    """
    lowest_bits = {number: [-1] * 64 for number in header.components}
    behind = bytearray()
    for start in scans:
        count = body[start + 4]
        parameters = start + 5 + 2 * count
        first, last, bits = struct.unpack_from("3B", body, parameters)
        if header.marker in SEQUENTIAL and (first, last, bits) != (0, 63, 0):
            # Written by some cameras. They mean nothing here, and libjpeg warns.
            first, last, bits = 0, 63, 0
            behind = behind or bytearray(body)
            behind[parameters : parameters + 3] = bytes((first, last, bits))
        for number in body[start + 5 : parameters : 2]:
            if number in lowest_bits and last < 64:
                lowest_bits[number][first : last + 1] = [bits & 15] * (last + 1 - first)
    if any(any(levels) for levels in lowest_bits.values()):
        raise InvalidImageError("The JPEG file is truncated: a scan of its pixels is missing.")
    return bytes(behind[scans[0] :]) if behind else body[scans[0] :]


def _draw(
    file: bytes, size: tuple[int, int], components: int, short_side_needed: int | None
) -> Image.Image:
    width, height = size
    reduction = 1
    if short_side_needed is not None:
        most = min(size) // (2 * short_side_needed)
        reduction = next((factor for factor in REDUCTIONS if factor <= most), 1)
    least = (-(-height // reduction), -(-width // reduction)) if reduction > 1 else (0, 0)
    try:
        pixels = simplejpeg.decode_jpeg(
            file,
            "CMYK" if components == 4 else "RGBX",
            min_height=least[0],
            min_width=least[1],
            strict=True,
        )
    except ValueError as error:
        if _MAYBE_INTACT.search(str(error)):
            return _drawn_by_pillow(file, size, short_side_needed)
        reason = str(error).rpartition("(): ")[2]
        raise InvalidImageError(f"The JPEG file is damaged or truncated: {reason}.") from error
    if components == 4:
        # As Adobe writes them, and Pillow reads them: 255 is no ink.
        return Image.fromarray(255 - pixels, "CMYK").convert("RGB")
    return image_over(pixels)


def _drawn_by_pillow(
    file: bytes, size: tuple[int, int], short_side_needed: int | None
) -> Image.Image:
    """Decode twice, with something behind each piece of a scan the second time.

    An intact scan ends before it, so the pixels are the same.
    """
    image = open_image(file, "JPEG", size, short_side_needed)
    if open_image(_with_filler(file), "JPEG", size, short_side_needed) != image:
        raise InvalidImageError("The JPEG file is damaged or truncated: a scan ends early.")
    return to_rgb(image)


def _with_filler(file: bytes) -> bytes:
    pieces, position, in_scan = [], 0, False

    def add(until: int) -> None:
        piece = file[position:until]
        pieces.append(_RESTART.sub(FILLER + rb"\g<0>", piece) + FILLER if in_scan else piece)

    for marker, start, end in _segments(file):
        add(start)
        pieces.append(file[start:end])
        position, in_scan = end, marker == START_OF_SCAN
    end_of_image = _MARKER.search(file, position)
    add(end_of_image.start() if end_of_image else len(file))
    pieces.append(file[end_of_image.start() :] if end_of_image else b"")
    return b"".join(pieces)
