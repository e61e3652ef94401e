"""Files to be refused: unsupported ones, damaged ones and bombs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from support.heif_files import coded_avif, coded_of, crop, heic_sample, heif_file
from support.image_references import BadSample, GoodSample, scene
from support.image_writers import bmp_file, encoded, png_chunk, png_file, tiff_file
from support.undecoded_images import undecoded_images
from support.undelivered_images import undelivered_images

_Bad = Iterator[tuple[str, BadSample]]


def bad_images(good: Mapping[str, GoodSample]) -> _Bad:
    """Yield each sample's name and the sample; the good ones serve to be cut in half."""
    yield from _unsupported()
    # Reversed, so that each type's first and simplest sample remains.
    yield from _cut({sample.media_type: sample.body for sample in reversed([*good.values()])})
    yield from _not_intact()
    for name, body in undelivered_images():
        yield name, _invalid(body)
    yield from _bombs()
    yield from _heif_bombs()


def _unsupported() -> _Bad:
    def refused(body: bytes, media_type: str = "application/octet-stream") -> BadSample:
        return BadSample(body, media_type, 415, "unsupported-media")

    for media_type in ("image/svg+xml", "image/jxl", "text/plain", "nonsense"):
        name = f"declared-{media_type.partition('/')[2]}"
        yield name, refused(b"no image", media_type)
    for name, body, _ in undecoded_images():
        yield name, refused(body)


def _invalid(body: bytes, media_type: str = "application/octet-stream") -> BadSample:
    return BadSample(body, media_type, 422, "invalid-image")


def _cut(bodies: Mapping[str, bytes]) -> _Bad:
    for media_type, body in bodies.items():
        name = media_type.removeprefix("image/")
        yield f"{name}-half", _invalid(body[: len(body) // 2], media_type)
        yield f"{name}-signature-only", _invalid(body[:16], media_type)


def _not_intact() -> _Bad:
    yield "empty", _invalid(b"", "image/png")
    yield "text", _invalid(b"not an image, although it says so", "image/jpeg")
    yield "html", _invalid(b"<!doctype html><title>502 Bad Gateway</title>", "image/jpeg")
    yield "zeros", _invalid(bytes(1000))
    png = encoded(scene(), "PNG")
    yield "png-flipped-bit", _invalid(_with_byte(png, len(png) // 2, png[len(png) // 2] ^ 1))
    colours = [(b"PLTE", bytes(768))]
    indexed = png_file(4, 1, [bytes(4)], colour_type=3, chunks=colours)
    yield "png-flipped-colour", _invalid(_with_byte(indexed, 60, 1))
    yield (
        "png-short-transparency",
        _invalid(png_file(4, 1, [bytes(4)], colour_type=0, chunks=[(b"tRNS", b"\0")])),
    )
    other_size = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    png = png_file(4, 1, [bytes(12)])
    yield "png-two-sizes", _invalid(png[:-12] + other_size + png[-12:])
    yield "png-no-pixels", _invalid(png_file(0, 5, []))
    yield "png-wrong-kind", _invalid(png_file(4, 4, [bytes(12)] * 4, depth=5))
    jpeg = encoded(scene(), "JPEG")
    scan = jpeg.index(b"\xff\xda")
    yield "jpeg-no-scan", _invalid(jpeg[:scan] + b"\xff\xd9")
    yield "jpeg-many-scans", _invalid(jpeg[:-2] + jpeg[scan:-2] * 40 + b"\xff\xd9")
    yield "gif-no-image", _invalid(encoded(scene(), "GIF")[:13] + b";")
    yield "tiff-missing-strips", _invalid(tiff_file(9, 9, [bytes(9)], {278: [1]}))
    yield "tiff-too-many-strips", _invalid(tiff_file(9, 1, [bytes(9)] * 9, {278: [1]}))
    yield "tiff-no-strips", _invalid(tiff_file(9, 9, [], {}))


def _bombs() -> _Bad:
    def refused(body: bytes, media_type: str) -> BadSample:
        return BadSample(body, media_type, 413, "image-too-large")

    jpeg = encoded(np.zeros((640, 640, 3), np.uint8), "JPEG")
    header = jpeg.index(b"\xff\xc0") + 5
    body = jpeg[:header] + struct.pack(">HH", 65_500, 65_500) + jpeg[header + 4 :]
    yield "jpeg-bomb", refused(body, "image/jpeg")
    rows = [bytes(2500)] * 1000
    yield "png-bomb", refused(png_file(20_000, 20_000, rows, depth=1, colour_type=0), "image/png")
    long = png_file(1_000_000, 1, [bytes(125_000)], depth=1, colour_type=0)
    yield "png-too-long", refused(long, "image/png")
    # To be cleared after it was shown: Pillow gets the memory for that when it opens the file.
    image = b",\0\0\0\0\xff\xff\xff\xff\0\2\2\x4c\1\0;"
    gif = b"GIF89a\x10\0\x10\0\0\0\0!\xf9\4\x08\0\0\0\0" + image
    yield "gif-bomb", refused(gif, "image/gif")
    webp = encoded(scene(), "WEBP", lossless=True)
    yield "webp-bomb", refused(webp[:21] + b"\xff\xff\xff\x0f" + webp[25:], "image/webp")
    canvas = b"VP8X\x0a\0\0\0\2\0\0\0" + b"\xff" * 6
    body = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    yield "webp-canvas-bomb", refused(body, "image/webp")
    yield "bmp-bomb", refused(bmp_file(60_000, 60_000, [], depth=1), "image/bmp")
    tiff = tiff_file(60_000, 60_000, [zlib.compress(bytes(10_000))], {259: [8], 278: [60_000]})
    yield "tiff-bomb", refused(tiff, "image/tiff")


def _heif_bombs() -> _Bad:
    for name, coded in (
        ("avif", coded_avif(np.zeros((64, 64, 3), np.uint8))),
        ("heic", coded_of(heic_sample("scene"))),
    ):
        media_type = f"image/{name}"
        large = replace(coded, width=30_000, height=30_000)
        sample = BadSample(heif_file([large]), media_type, 413, "image-too-large")
        yield f"{name}-bomb", sample
        shown = heif_file([large], properties=[crop(9, 9)])
        yield f"{name}-cropped-bomb", replace(sample, body=shown)
        wide = [replace(coded, width=16_384, height=16_384)] * 4
        body = heif_file(wide, grid=(2, 2, 99, 99))
        yield f"{name}-tile-bomb", replace(sample, body=body)
        body = heif_file([coded] * 9, grid=(3, 3, 99, 99))
        many = body.replace(b"\0\0\2\2\0\x63", b"\0\0\xff\xff\0\x63")
        yield f"{name}-many-tiles", _invalid(many, media_type)
    small = replace(coded_avif(np.zeros((300, 300, 3), np.uint8)), width=64, height=64)
    yield "avif-codes-more-than-it-states", _invalid(heif_file([small]))


def _with_byte(body: bytes, position: int, byte: int) -> bytes:
    return body[:position] + bytes([byte]) + body[position + 1 :]
