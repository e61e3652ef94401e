"""Good JPEG, PNG, WebP, GIF and BMP files; the TIFF files have a module of their own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.image_references import (
    HEIGHT,
    WIDTH,
    GoodSample,
    Pixels,
    from_cmyk,
    grey_rgb,
    on_white,
    palette,
    ramp,
    scene,
    upright,
)
from support.image_writers import bmp_file, encoded, exif, packed, png_file

_Good = Iterator[tuple[str, GoodSample]]


def good_images() -> _Good:
    """Yield each sample's name and the sample."""
    for group in (_jpeg, _png, _png_16_bits, _webp, _gif, _bmp, _orientations):
        yield from group()


def _jpeg() -> _Good:
    rgb, grey = scene(), ramp(256).astype(np.uint8)
    exact = {"quality": 98, "subsampling": 0}

    def sample(pixels: Any, expected: Pixels, **options: Any) -> GoodSample:
        body = encoded(pixels, "JPEG", **{**exact, **options})
        # The DCT's coefficients are rounded, and again the colours.
        return GoodSample(body, "image/jpeg", expected, tolerance=4)

    yield "jpeg-rgb", sample(rgb, rgb)
    yield "jpeg-progressive", sample(rgb, rgb, progressive=True)
    yield "jpeg-grey", sample(grey, grey_rgb(grey))
    inks = np.concatenate([255 - rgb, grey[..., None] // 2], axis=-1)
    yield "jpeg-cmyk", sample(Image.fromarray(inks, "CMYK"), from_cmyk(inks))
    metadata = {"comment": b"hello", "icc_profile": b"no profile" * 9000, "dpi": (300, 300)}
    as_ycbcr = Image.frombytes("YCbCr", (WIDTH, HEIGHT), rgb.tobytes())
    jfif = encoded(as_ycbcr, "JPEG", **exact)
    not_converted = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5)
    adobe = jfif[:2] + not_converted + jfif[20:]
    yield "jpeg-adobe-rgb", GoodSample(adobe, "image/jpeg", rgb, tolerance=4)
    mpo = encoded(rgb, "MPO", save_all=True, append_images=[Image.fromarray(grey)], **exact)
    yield "jpeg-with-second-picture", GoodSample(mpo, "image/jpeg", rgb, tolerance=4)
    yield "jpeg-metadata", sample(rgb, rgb, **metadata)


def _png() -> _Good:
    rgb = scene()

    def sample(expected: Pixels, levels: NDArray[Any], depth: int, kind: int, **more: Any) -> Any:
        body = png_file(WIDTH, HEIGHT, packed(levels, depth), depth=depth, colour_type=kind, **more)
        return GoodSample(body, "image/png", expected)

    for depth in (1, 2, 4, 8):
        levels = ramp(2**depth)
        grey = grey_rgb(levels * 255 // (2**depth - 1))
        key = 2**depth - 1 if depth == 1 else 1
        keyed = [(b"tRNS", struct.pack(">H", key))]
        yield f"png-grey-{depth}", sample(grey, levels, depth, 0)
        hidden = np.where(levels[..., None] == key, 255, grey).astype(np.uint8)
        yield f"png-grey-{depth}-key", sample(hidden, levels, depth, 0, chunks=keyed)
        colours = palette(2**depth)
        entries = (b"PLTE", colours.tobytes())
        yield f"png-palette-{depth}", sample(colours[levels], levels, depth, 3, chunks=[entries])
        alpha = np.arange(2**depth) * 255 // (2**depth - 1)
        chunks = [entries, (b"tRNS", alpha.astype(np.uint8).tobytes())]
        expected = on_white(colours[levels], alpha[levels])
        yield f"png-palette-{depth}-alpha", sample(expected, levels, depth, 3, chunks=chunks)
    yield "png-rgb", sample(rgb, rgb, 8, 2)
    passes = [row for part in _adam7(rgb) for row in packed(part, 8)]
    interlaced = png_file(WIDTH, HEIGHT, passes, interlaced=True)
    yield "png-interlaced", GoodSample(interlaced, "image/png", rgb)
    hidden = np.where((rgb == rgb[3, 5]).all(-1, keepdims=True), 255, rgb).astype(np.uint8)
    key_chunk = (b"tRNS", rgb[3, 5].astype(">u2").tobytes())
    yield "png-rgb-key", sample(hidden, rgb, 8, 2, chunks=[key_chunk])
    alpha = ramp(256)
    rgba = np.concatenate([rgb, alpha[..., None]], axis=-1)
    yield "png-rgba", sample(on_white(rgb, alpha), rgba, 8, 6)
    grey_alpha = np.stack([255 - alpha, alpha], axis=-1)
    yield "png-grey-alpha", sample(on_white(grey_rgb(255 - alpha), alpha), grey_alpha, 8, 4)
    texts = [(b"tEXt", b"Comment\0hello"), (b"zTXt", b"Long\0\0" + zlib.compress(b"a" * 9999))]
    yield "png-metadata", sample(rgb, rgb, 8, 2, chunks=[*texts, (b"prVt", b"private")])
    frames = [Image.fromarray(255 - rgb)] * 2
    animated = encoded(rgb, "PNG", save_all=True, append_images=frames, duration=[90, 80, 70])
    yield "png-animated", GoodSample(animated, "image/png", rgb, frames=2)


def _png_16_bits() -> _Good:
    levels, rgb = ramp(65_536), scene().astype(int) * 257 - 100
    deep = np.clip(rgb, 0, 65_535)
    alpha = ramp(65_536)[::-1]

    def sample(expected: Pixels, stored: NDArray[Any], kind: int, key: Sequence[int] = ()) -> Any:
        chunks = [(b"tRNS", struct.pack(f">{len(key)}H", *key))] if key else []
        rows = packed(stored, 16)
        body = png_file(WIDTH, HEIGHT, rows, depth=16, colour_type=kind, chunks=chunks)
        return GoodSample(body, "image/png", expected)

    grey = grey_rgb(levels >> 8)
    yield "png-grey-16", sample(grey, levels, 0)
    hidden = np.where(levels[..., None] == levels[7, 9], 255, grey).astype(np.uint8)
    yield "png-grey-16-key", sample(hidden, levels, 0, [levels[7, 9]])
    high = (deep >> 8).astype(np.uint8)
    yield "png-rgb-16", sample(high, deep, 2)
    hidden = np.where((deep == deep[7, 9]).all(-1, keepdims=True), 255, high).astype(np.uint8)
    yield "png-rgb-16-key", sample(hidden, deep, 2, list(deep[7, 9]))
    deep_rgba = np.concatenate([deep, alpha[..., None]], axis=-1)
    yield "png-rgba-16", sample(on_white(high, alpha >> 8), deep_rgba, 6)
    grey_alpha = np.stack([levels, alpha], axis=-1)
    yield "png-grey-alpha-16", sample(on_white(grey, alpha >> 8), grey_alpha, 4)


def _adam7(pixels: Pixels) -> list[Pixels]:
    starts = ((0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0))
    steps = ((8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1))
    return [pixels[r::dr, c::dc] for (r, c), (dr, dc) in zip(starts, steps, strict=True)]


def _webp() -> _Good:
    rgb, alpha = scene(), ramp(256).astype(np.uint8)
    rgba = np.concatenate([rgb, alpha[..., None]], axis=-1)
    media_type = "image/webp"
    yield "webp-lossless", GoodSample(encoded(rgb, "WEBP", lossless=True), media_type, rgb)
    # WebP halves the colours' resolution.
    yield "webp-lossy", GoodSample(encoded(rgb, "WEBP", quality=95), media_type, rgb, tolerance=12)
    body = encoded(rgba, "WEBP", lossless=True, exact=True)
    yield "webp-alpha", GoodSample(body, media_type, on_white(rgb, alpha))
    more = [Image.fromarray(255 - rgb), Image.fromarray(rgb // 2)]
    body = encoded(rgb, "WEBP", save_all=True, append_images=more, lossless=True)
    yield "webp-animated", GoodSample(body, media_type, rgb, frames=3)


def _gif() -> _Good:
    levels, colours = ramp(256).astype(np.uint8), palette(256)
    expected = colours[levels]
    indexed = Image.fromarray(levels)
    indexed.putpalette(colours.tobytes())
    grey = GoodSample(encoded(levels, "GIF"), "image/gif", grey_rgb(levels))
    yield "gif-grey", grey
    yield "gif-palette", GoodSample(encoded(indexed, "GIF", interlace=0), "image/gif", expected)
    yield "gif-interlaced", GoodSample(encoded(indexed, "GIF", interlace=1), "image/gif", expected)
    body = encoded(indexed, "GIF", transparency=40, comment=b"hello" * 200)
    hidden = np.where(levels[..., None] == 40, 255, expected).astype(np.uint8)
    yield "gif-transparent", GoodSample(body, "image/gif", hidden)
    # The screen's size, at the start of the file, is less than the image's.
    body = encoded(indexed, "GIF")
    body = body[:6] + struct.pack("<HH", WIDTH - 9, HEIGHT - 9) + body[10:]
    yield "gif-larger-than-its-screen", GoodSample(body, "image/gif", expected)
    more = [Image.fromarray(255 - expected), Image.fromarray(expected // 2)]
    body = encoded(indexed, "GIF", save_all=True, append_images=more, disposal=2, optimize=False)
    yield "gif-animated", GoodSample(body, "image/gif", expected, frames=3)


def _bmp() -> _Good:
    rgb, levels = scene(), ramp(16)
    bgr, media_type = rgb[..., ::-1], "image/bmp"
    colours = palette(16)
    entries = np.concatenate([colours[:, ::-1], np.zeros((16, 1), np.uint8)], axis=1).tobytes()
    yield "bmp-rgb", GoodSample(encoded(rgb, "BMP"), media_type, rgb)
    grey = ramp(256).astype(np.uint8)
    yield "bmp-grey", GoodSample(encoded(grey, "BMP"), media_type, grey_rgb(grey))
    bits = ramp(2)
    body = encoded(Image.fromarray(bits.astype(bool)), "BMP")
    yield "bmp-1", GoodSample(body, media_type, grey_rgb(bits * 255))
    body = bmp_file(WIDTH, HEIGHT, packed(levels[::-1], 4), depth=4, palette=entries)
    yield "bmp-palette-4", GoodSample(body, media_type, colours[levels])
    body = bmp_file(WIDTH, -HEIGHT, packed(bgr, 8), depth=24)
    yield "bmp-top-down", GoodSample(body, media_type, rgb)
    alpha = ramp(256)
    bgra = np.concatenate([bgr, alpha[..., None]], axis=-1)[::-1]
    body = bmp_file(WIDTH, HEIGHT, packed(bgra, 8), depth=32)
    yield "bmp-32-without-alpha", GoodSample(body, media_type, rgb)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    body = bmp_file(WIDTH, HEIGHT, packed(bgra, 8), depth=32, compression=3, masks=masks)
    yield "bmp-32-with-alpha", GoodSample(body, media_type, on_white(rgb, alpha))
    red, green, blue = (rgb[::-1, :, channel].astype(int) for channel in range(3))
    words = ((red >> 3 << 11) | (green >> 2 << 5) | blue >> 3).astype("<u2")
    masks_16 = (0xF800, 0x7E0, 0x1F)
    rows = [row.tobytes() for row in words]
    body = bmp_file(WIDTH, HEIGHT, rows, depth=16, compression=3, masks=masks_16)
    # Five bits a channel.
    yield "bmp-16", GoodSample(body, media_type, rgb, tolerance=8)


def _orientations() -> _Good:
    stored = scene()
    for orientation in range(1, 9):
        expected, metadata = upright(stored, orientation), exif(orientation)
        files = {
            "jpeg": (encoded(stored, "JPEG", exif=metadata, quality=98, subsampling=0), 4),
            "png": (encoded(stored, "PNG", exif=metadata), 0),
            "webp": (encoded(stored, "WEBP", exif=metadata, lossless=True), 0),
            "tiff": (encoded(stored, "TIFF", tiffinfo={274: orientation}), 0),
        }
        for name, (body, tolerance) in files.items():
            sample = GoodSample(body, f"image/{name}", expected, tolerance)
            yield f"{name}-orientation-{orientation}", sample
