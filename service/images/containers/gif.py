"""GIF: the screen, the first image on it, and the number of images."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from PIL import Image

from service.api.errors import InvalidImageError
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, FirstFrame
from service.images.pillow import check_palette, open_image, to_rgb

MAX_SUB_BLOCKS = 1_000_000
"""Maximum number of blocks of up to 255 bytes in one file; walking over them takes about 0.1 s."""

EXTENSION, IMAGE = b"!,"
GRAPHIC_CONTROL = b"!\xf9\x04"
TRAILER = b";"


def read_gif(body: bytes) -> FirstFrame:
    """Keep the palettes, the first image and its transparency; drop comments.

    Raises:
        InvalidImageError: the file has no image.
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
    left, top, columns, rows, image_flags = struct.unpack_from("<4HB", body, start + 1)
    colours = (_palette_bytes(image_flags) or _palette_bytes(flags)) // 3
    # A file whose screen is as large as the image: the pixels around it are drawn by nobody.
    size = struct.pack("<HH", columns, rows)
    image = b",\0\0\0\0" + size + body[start + 9 : end]
    file = b"".join((body[:6], size, body[10:screen_end], control, image, TRAILER))
    # As in Pillow and in browsers, the screen grows with an image that does not fit.
    screen = max(width, left + columns), max(height, top + rows)
    return FirstFrame(
        *screen,
        draw=partial(_draw, file, screen, (left, top), (columns, rows), colours),
        frames=1 + _count_images(blocks),
    )


def _draw(
    file: bytes,
    screen: tuple[int, int],
    place: tuple[int, int],
    size: tuple[int, int],
    colours: int,
    _: int | None,
) -> Image.Image:
    """Draw the image on a white screen."""
    if colours == 0:
        raise InvalidImageError("The GIF file is damaged: its image has no palette.")
    image = open_image(file, "GIF", size)
    check_palette(image, colours, "GIF")
    rgb = to_rgb(image)
    if size == screen:
        return rgb
    canvas = Image.new("RGB", screen, "white")
    canvas.paste(rgb, place)
    return canvas


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
