"""GIF: the screen, the first image on it, and the number of images."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from service.api.errors import InvalidImageError
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, FirstFrame

MAX_SUB_BLOCKS = 1_000_000
"""Maximum number of blocks of up to 255 bytes in one file; walking over them takes about 0.1 s."""

EXTENSION, IMAGE = b"!,"
GRAPHIC_CONTROL = b"!\xf9\x04"
TRAILER = b";"


def read_gif(body: bytes) -> FirstFrame:
    """Keep the palettes, the first image and its transparency; drop comments.

    Raises:
        IndexError, struct.error: the file is truncated.
    """
    width, height, flags = struct.unpack_from("<HHB", body, 6)
    screen_end = 13 + _palette_bytes(flags)
    control = b""
    blocks = _blocks(body, screen_end)
    for introducer, start, end in blocks:
        if introducer == IMAGE:
            break
        if body.startswith(GRAPHIC_CONTROL, start):
            control = body[start:end]
    else:
        raise InvalidImageError("The GIF file is damaged: it has no image.")
    left, top, columns, rows = struct.unpack_from("<4H", body, start + 1)
    return FirstFrame(
        b"".join((body[:screen_end], control, body[start:end], TRAILER)),
        # As in Pillow and in browsers, the screen grows with an image that does not fit.
        width=max(width, left + columns),
        height=max(height, top + rows),
        frames=1 + _count_images(blocks),
    )


def _blocks(body: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield introducer, start and end of each extension and image."""
    sub_blocks = iter(range(MAX_SUB_BLOCKS))
    while (introducer := body[position]) in (EXTENSION, IMAGE):
        start = position
        position += 2 if introducer == EXTENSION else 11 + _palette_bytes(body[start + 9])
        for _ in sub_blocks:
            size = body[position]
            position += size + 1
            if size == 0:
                break
        else:
            raise InvalidImageError(f"The GIF file has more than {MAX_SUB_BLOCKS} pieces.")
        yield introducer, start, position


def _count_images(blocks: Iterator[tuple[int, int, int]]) -> int:
    """Count the images after the first; damage ends the counting, not the request."""
    images = 0
    try:
        for introducer, _, _ in blocks:
            images += introducer == IMAGE
            if images == MAX_FRAMES_COUNTED - 1:
                break
    except (IndexError, InvalidImageError):
        pass
    return images


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
