"""Good files of rare kinds: small frames, BMP's run lengths and masks, BigTIFF, odd JPEG."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from support.image_references import (
    HEIGHT,
    WIDTH,
    GoodSample,
    Pixels,
    grey_rgb,
    on_white,
    palette,
    ramp,
    scene,
)
from support.image_writers import (
    bmp_file,
    encoded,
    gif_file,
    jpeg_in_scans,
    packed,
    webp_animation,
)

_Good = Iterator[tuple[str, GoodSample]]


def rare_images() -> _Good:
    """Yield each sample's name and the sample."""
    for group in (_jpeg, _small_frames, _bmp_runs, _bmp_masks, _tiff):
        yield from group()


def _jpeg() -> _Good:
    rgb = scene()
    exact = {"quality": 98, "subsampling": 0}
    jpeg = encoded(rgb, "JPEG", **exact)

    def sample(body: bytes, tolerance: int = 4) -> GoodSample:
        return GoodSample(body, "image/jpeg", rgb, tolerance)

    yield "jpeg-a-scan-for-each-colour", sample(jpeg_in_scans(_planes(rgb)), 6)
    yield "jpeg-restarts", sample(encoded(rgb, "JPEG", restart_marker_blocks=1, **exact))
    # Idle bytes behind the scan, which TurboJPEG stops at.
    yield "jpeg-idle-bytes", sample(jpeg[:-2] + bytes(99) + jpeg[-2:])
    progressive = encoded(rgb, "JPEG", progressive=True, **exact)
    last = progressive.rindex(b"\xff\xda")
    idle = progressive[:last] + bytes(99) + progressive[last:]
    yield "jpeg-progressive-idle-bytes", sample(idle)
    # What libjpeg warns of, and decodes.
    scan = jpeg.index(b"\xff\xda") + 2 + 2 + 1 + 6
    yield "jpeg-wrong-spectrum", sample(jpeg[:scan] + b"\0\0\0" + jpeg[scan + 3 :])
    yield "jpeg-jfif-9", sample(jpeg.replace(b"JFIF\0\1", b"JFIF\0\x09", 1))
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(4) + b"\x09"
    yield "jpeg-adobe-9", sample(jpeg[:2] + adobe + jpeg[20:])
    yield "jpeg-rare-subsampling", GoodSample(rare_subsampling(), "image/jpeg", _middle(), 1)


def _planes(rgb: Pixels) -> list[Pixels]:
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
    return [np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes]


def rare_subsampling() -> bytes:
    """Return a JPEG file, all grey, whose brightness has three times the columns of the colours."""
    grey = np.full((8, 24), 77, np.uint8)
    colour = np.full((8, 8), 128, np.uint8)
    return jpeg_in_scans([grey, colour, colour], samplings=(0x31, 0x11, 0x11))


def _middle() -> Pixels:
    return np.full((8, 24, 3), 77, np.uint8)


def _small_frames() -> _Good:
    """What nobody drew is transparent, and transparency is laid on white."""
    levels, colours = ramp(256).astype(np.uint8), palette(256)
    screen = np.full((HEIGHT + 9, WIDTH + 7, 3), 255, np.uint8)
    screen[4 : 4 + HEIGHT, 5 : 5 + WIDTH] = colours[levels]
    gif = gif_file(levels, colours, screen=(WIDTH + 7, HEIGHT + 9), place=(5, 4))
    yield "gif-smaller-than-its-screen", GoodSample(gif, "image/gif", screen)
    red_and_blue = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    body = gif_file(np.zeros((1, 1), np.uint8), red_and_blue, screen=(2, 1))
    yield "gif-one-of-two-pixels", GoodSample(body, "image/gif", _row([[255, 0, 0], [255] * 3]))
    # An index beyond the palette, if it is the transparent one.
    body = gif_file(np.array([[0, 3]], np.uint8), red_and_blue, transparent=3)
    yield "gif-transparent-beyond", GoodSample(body, "image/gif", _row([[255, 0, 0], [255] * 3]))
    rgb = scene()
    canvas = np.full((HEIGHT + 6, WIDTH + 4, 3), 255, np.uint8)
    canvas[2 : 2 + HEIGHT, 4 : 4 + WIDTH] = rgb
    for name, flags in (("", 0x02), ("-alpha", 0x12)):
        body = webp_animation(rgb, canvas=(WIDTH + 4, HEIGHT + 6), place=(4, 2), flags=flags)
        yield f"webp-smaller-than-its-canvas{name}", GoodSample(body, "image/webp", canvas)


def _row(colours: list[list[int]]) -> Pixels:
    return np.array([colours], np.uint8)


def _bmp_runs() -> _Good:
    colours = palette(16)
    entries = np.concatenate([colours[:, ::-1], np.zeros((16, 1), np.uint8)], axis=1).tobytes()

    def sample(
        rows: list[bytes], indices: list[list[int]], compression: int, end: bytes = b"\0\1"
    ) -> GoodSample:
        """Take the rows from the bottom up; an index of -1 is not drawn."""
        expected = np.array(indices)
        rgb = np.where(expected[..., None] < 0, 255, colours[expected]).astype(np.uint8)
        height, width = expected.shape
        depth = {1: 8, 2: 4}[compression]
        body = bmp_file(
            *(width, height),
            [b"".join(rows) + end],
            depth=depth,
            compression=compression,
            palette=entries,
        )
        return GoodSample(body, "image/bmp", rgb)

    full = [b"\5\7\0\0", b"\0\5\1\2\3\4\5\0\0\0"]
    yield "bmp-runs-8", sample(full, [[1, 2, 3, 4, 5], [7] * 5], 1)
    yield "bmp-runs-8-without-end", sample(full, [[1, 2, 3, 4, 5], [7] * 5], 1, b"")
    short = [b"\2\7\0\0", b"\0\2\1\0\1\3\1\4"]
    steps = [[-1, 3, 4, -1, -1], [7, 7, -1, -1, -1]]
    yield "bmp-runs-8-steps", sample(short, steps, 1)
    yield "bmp-runs-8-ends-early", sample([b"\5\7\0\0"], [[-1] * 5, [7] * 5], 1)
    yield "bmp-runs-8-too-long", sample([b"\x09\7\0\0", b"\5\2"], [[2] * 5, [7] * 5], 1)
    rows = [b"\5\x12\0\0", b"\0\5\x12\x34\x50\0"]
    yield "bmp-runs-4", sample(rows, [[1, 2, 3, 4, 5], [1, 2, 1, 2, 1]], 2)


def _bmp_masks() -> _Good:
    rgb, media_type = scene(), "image/bmp"
    red, green, blue = (rgb[::-1, :, channel].astype(np.int64) for channel in range(3))

    def sample(words: object, expected: Pixels, tolerance: int, **more: object) -> GoodSample:
        rows = [row.tobytes() for row in words]  # type: ignore[attr-defined]
        return GoodSample(
            bmp_file(WIDTH, HEIGHT, rows, compression=3, **more),  # type: ignore[arg-type]
            media_type,
            expected,
            tolerance,
        )

    words = (red >> 4 << 8 | green >> 4 << 4 | blue >> 4).astype("<u2")
    sixteenths = (rgb >> 4 << 4 | rgb >> 4).astype(np.uint8)
    yield "bmp-masks-444", sample(words, sixteenths, 1, depth=16, masks=(0xF00, 0xF0, 0xF))
    wide = (red << 22 | green << 12 | blue << 2).astype("<u4")
    masks = (0x3FF00000, 0xFFC00, 0x3FF)
    yield "bmp-masks-10-bits", sample(wide, rgb, 1, depth=32, masks=masks)
    order = (red | green << 8 | blue << 16).astype("<u4")
    yield "bmp-masks-rgb", sample(order, rgb, 0, depth=32, masks=(0xFF, 0xFF00, 0xFF0000))
    alpha = ramp(16)
    with_alpha = words | (alpha[::-1] << 12).astype("<u2")
    expected = on_white(sixteenths, alpha * 17)
    four = (0xF00, 0xF0, 0xF, 0xF000)
    yield "bmp-masks-4444", sample(with_alpha, expected, 1, depth=16, masks=four)
    levels, colours = ramp(4), palette(4)
    entries = np.concatenate([colours[:, ::-1], np.zeros((4, 1), np.uint8)], axis=1).tobytes()
    body = bmp_file(WIDTH, HEIGHT, packed(levels[::-1], 2), depth=2, palette=entries)
    yield "bmp-palette-2", GoodSample(body, media_type, colours[levels])


def _tiff() -> _Good:
    rgb, grey = scene(), ramp(256).astype(np.uint8)
    for name, options in (("raw", {}), ("deflate", {"compression": "tiff_adobe_deflate"})):
        body = encoded(rgb, "TIFF", big_tiff=True, **options)
        yield f"bigtiff-{name}", GoodSample(body, "image/tiff", rgb)
    body = bigtiff_big_endian(grey)
    yield "bigtiff-big-endian", GoodSample(body, "image/tiff", grey_rgb(grey))


def bigtiff_big_endian(grey: Pixels) -> bytes:
    """Put a BigTIFF file together whose offsets have 64 bits."""
    height, width = grey.shape
    shorts = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height}
    entries = b"".join(struct.pack(">HHQHHHH", tag, 3, 1, n, 0, 0, 0) for tag, n in shorts.items())
    offset = struct.pack(">HHQQ", 273, 16, 1, 16)
    size = struct.pack(">HHQQ", 279, 16, 1, grey.size)
    tags = sorted(
        [entries[at : at + 20] for at in range(0, len(entries), 20)] + [offset, size],
        key=lambda entry: entry[:2],
    )
    data = grey.tobytes()
    head = b"MM\0+" + struct.pack(">HHQ", 8, 0, 16 + len(data))
    return head + data + struct.pack(">Q", len(tags)) + b"".join(tags) + bytes(8)
