"""Files that do not deliver every pixel, in containers that look whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from support.heif_files import coded_avif, coded_of, heic_sample, heif_file
from support.image_references import HEIGHT, WIDTH, palette, ramp, scene
from support.image_writers import (
    bmp_file,
    encoded,
    gif_file,
    jpeg_in_scans,
    packed,
    png_chunk,
    png_file,
    tiff_file,
)
from support.rare_images import rare_subsampling

_Files = Iterator[tuple[str, bytes]]

END = b"\xff\xd9"


def undelivered_images() -> _Files:
    """Yield each file's name and the file."""
    for group in (_png, _palettes, _jpeg, _gif, _webp, _tiff, _bmp, _heif):
        yield from group()


def _png() -> _Files:
    rows = packed(scene(), 8)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))

    def with_pixels(*pieces: bytes) -> bytes:
        file = png_file(WIDTH, HEIGHT, [])
        chunks = b"".join(png_chunk(b"IDAT", piece) for piece in pieces)
        return file[:33] + chunks + png_chunk(b"IEND", b"")

    yield "png-half-the-rows", png_file(WIDTH, HEIGHT, rows[: HEIGHT // 2])
    yield "png-all-but-a-row", png_file(WIDTH, HEIGHT, rows[:-1])
    yield "png-half-a-row", png_file(WIDTH, HEIGHT, [*rows[:-1], rows[-1][:9]])
    yield "png-16-bits-half-the-rows", png_file(WIDTH, HEIGHT, rows, depth=16)
    passes = png_file(WIDTH, HEIGHT, rows[: HEIGHT // 2], interlaced=True)
    yield "png-interlaced-half-the-rows", passes
    yield "png-no-pixels-at-all", with_pixels()
    for at, part in ((10, "compression"), (11, "filters"), (12, "interlace")):
        header = bytearray(png_file(WIDTH, HEIGHT, rows))
        header[16 + at] = 9
        header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
        yield f"png-unknown-{part}", bytes(header)
    for missing in (1, 4, 5, 100):
        yield f"png-stream-cut-by-{missing}", with_pixels(pixels[:-missing])
    yield "png-second-piece-missing", with_pixels(pixels[:99])
    yield "png-wrong-sum", with_pixels(pixels[:-1] + bytes([pixels[-1] ^ 1]))


def _palettes() -> _Files:
    levels, colours = ramp(256).astype(np.uint8), palette(256)
    rows = packed(levels, 8)
    for name, entries in (("no", b""), ("short", bytes(3 * 9)), ("odd", bytes(3 * 256 - 1))):
        chunks = [(b"PLTE", entries)] if entries else []
        body = png_file(WIDTH, HEIGHT, rows, colour_type=3, chunks=chunks)
        yield f"png-{name}-palette", body
    nibbles = packed(ramp(16), 4)
    chunks = [(b"PLTE", bytes(3 * 9))]
    yield (
        "png-4-short-palette",
        png_file(WIDTH, HEIGHT, nibbles, depth=4, colour_type=3, chunks=chunks),
    )
    yield "gif-no-palette", gif_file(levels, None)
    yield "gif-short-palette", gif_file(levels, colours[:16])
    yield (
        "gif-short-grey-palette",
        gif_file(levels, np.repeat(np.arange(4, dtype=np.uint8), 3).reshape(4, 3)),
    )
    yield "bmp-no-palette", bmp_file(WIDTH, HEIGHT, rows, depth=8)
    yield "bmp-short-palette", bmp_file(WIDTH, HEIGHT, rows, depth=8, palette=bytes(4 * 9))
    yield "bmp-4-short-palette", bmp_file(WIDTH, HEIGHT, nibbles, depth=4, palette=bytes(4 * 9))
    runs = [b"\x02\x07\0\1"]
    yield (
        "bmp-runs-short-palette",
        bmp_file(2, 1, runs, depth=8, compression=1, palette=bytes(4 * 7)),
    )
    yield "tiff-no-palette", tiff_file(WIDTH, HEIGHT, [levels.tobytes()], {262: [3]})
    tags: dict[int, Sequence[int]] = {262: [3], 320: [0] * 99}
    yield "tiff-short-palette", tiff_file(WIDTH, HEIGHT, [levels.tobytes()], tags)


def _jpeg() -> _Files:
    rgb = np.random.default_rng(5).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for name, options in _JPEG_KINDS.items():
        jpeg = encoded(Image.fromarray(rgb).convert(options.pop("mode", "RGB")), "JPEG", **options)
        scan = jpeg.rindex(b"\xff\xda")
        for share in (0.3, 0.9):
            cut = scan + 20 + int((len(jpeg) - scan - 20) * share)
            yield f"jpeg-{name}-cut-at-{share}", jpeg[:cut].rstrip(b"\xff") + END
        yield f"jpeg-{name}-cut-without-end", jpeg[:-99]
    progressive = encoded(rgb, "JPEG", progressive=True)
    scans = [at for at in range(len(progressive)) if progressive.startswith(b"\xff\xda", at)]
    for number, (start, following) in enumerate(pairwise([*scans, len(progressive) - 2])):
        # Between two scans lie the second one's tables.
        tables = progressive.find(b"\xff\xc4", start, following)
        stop = following if tables < 0 else tables
        body = progressive[:start] + progressive[stop:]
        yield f"jpeg-progressive-without-scan-{number}", body
    yield "jpeg-progressive-first-scan-alone", progressive[: scans[1]] + END
    restarts = encoded(rgb, "JPEG", restart_marker_blocks=4)
    marker = restarts.index(b"\xff\xd2")
    yield "jpeg-restart-marker-missing", restarts[:marker] + restarts[marker + 2 :]
    yield (
        "jpeg-restart-interval-missing",
        (restarts[:marker] + restarts[restarts.index(b"\xff\xd3") :]),
    )
    plane = rgb[..., 0]
    in_scans = jpeg_in_scans([plane] * 3)
    yield "jpeg-a-colour-missing", in_scans[: in_scans.rindex(b"\xff\xda")] + END
    odd = rare_subsampling()
    last = odd.rindex(b"\xff\xda")
    yield "jpeg-rare-subsampling-cut", odd[: last + 10] + END
    yield "jpeg-no-coefficient", jpeg_header_alone(encoded(rgb, "JPEG")) + END


_JPEG_KINDS: dict[str, dict[str, Any]] = {
    "rgb": {},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "optimized": {"optimize": True, "subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
}


def jpeg_header_alone(jpeg: bytes) -> bytes:
    """Return a file up to the start of its first scan's data."""
    scan = jpeg.index(b"\xff\xda")
    return jpeg[: scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")]


def _gif() -> _Files:
    levels, colours = ramp(256).astype(np.uint8), palette(256)
    count = levels.size
    for pixels in (0, 1, count // 2, count - WIDTH, count - 1):
        yield f"gif-{pixels}-pixels", gif_file(levels, colours, pixels=pixels)
    whole = encoded(Image.fromarray(levels), "GIF", interlace=1)
    yield "gif-interlaced-cut", whole[: len(whole) // 2] + b"\0;"


def _webp() -> _Files:
    rgb = np.random.default_rng(6).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name, options in (("lossy", {}), ("lossless", {"lossless": True})):
        webp = encoded(rgb, "WEBP", **options)
        for missing in (60, len(webp) // 2):
            kept = webp[: (len(webp) - missing) & ~1]
            yield f"webp-{name}-cut-by-{missing}", _riff(kept, kept)
            yield f"webp-{name}-chunk-longer-by-{missing}", _riff(kept, webp)
    alpha = np.concatenate([rgb, rgb[..., :1]], axis=-1)
    webp = encoded(alpha, "WEBP")
    at = webp.index(b"ALPH")
    (size,) = struct.unpack_from("<I", webp, at + 4)
    half = size // 2 & ~1
    kept = webp[: at + 4] + struct.pack("<I", half) + webp[at + 8 : at + 8 + half]
    whole = kept + webp[at + 8 + size + size % 2 :]
    yield "webp-alpha-cut", whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def _riff(kept: bytes, original: bytes) -> bytes:
    """Correct the length of the file, and of its only chunk if the original is the file itself."""
    head = kept[:4] + struct.pack("<I", len(kept) - 8) + kept[8:16]
    chunk = struct.pack("<I", len(kept) - 20) if original is kept else original[16:20]
    return head + chunk + kept[20:]


def _tiff() -> _Files:
    grey = ramp(256).astype(np.uint8)
    raw = grey.tobytes()
    deflated = zlib.compress(raw)
    yield "tiff-raw-short-strip", tiff_file(WIDTH, HEIGHT, [raw[: len(raw) // 2]], {})
    strips = [row.tobytes() for row in grey]
    yield (
        "tiff-raw-short-last-strip",
        tiff_file(WIDTH, HEIGHT, [*strips[:-1], strips[-1][:9]], {278: [1]}),
    )
    yield "tiff-strip-behind-the-end", _moved(tiff_file(WIDTH, HEIGHT, [raw], {}), 273)
    body = tiff_file(WIDTH, HEIGHT, [deflated], {259: [8]})
    yield "tiff-deflated-strip-behind-the-end", _moved(body, 273)
    tiles = tiff_file(16, 16, [bytes(99)], {322: [16], 323: [16]}, offsets_tag=324)
    yield "tiff-short-tile", tiles
    for missing in (1, 4, 40):
        cut = [deflated[:-missing]]
        yield f"tiff-deflate-cut-by-{missing}", tiff_file(WIDTH, HEIGHT, cut, {259: [8]})
    wrong = [deflated[:-1] + bytes([deflated[-1] ^ 1])]
    yield "tiff-deflate-wrong-sum", tiff_file(WIDTH, HEIGHT, wrong, {259: [8]})
    few = [zlib.compress(raw[: len(raw) // 2])]
    yield "tiff-deflate-half-the-rows", tiff_file(WIDTH, HEIGHT, few, {259: [8]})
    yield "tiff-packbits-half", tiff_file(64, 2, [bytes([193, 7])], {259: [32773]})
    noise = np.random.default_rng(7).integers(0, 256, (64, 64), dtype=np.uint8)
    for name, image in (
        ("jpeg", noise),
        ("tiff_lzw", noise),
        ("group3", noise > 99),
        ("group4", noise > 99),
    ):
        body = encoded(Image.fromarray(image), "TIFF", compression=name)
        for share in (0.5, 0.95):
            yield f"tiff-{name}-{share}", _shortened(body, share)
    body = encoded(Image.fromarray(noise), "TIFF", compression="jpeg")
    yield "tiff-jpeg-too-narrow", _with_values(body, {256: 80})
    yield "tiff-jpeg-too-low", _with_values(body, {257: 80, 278: 80})


def _entry(body: bytes, wanted: int) -> int:
    """Return where the value of a tag lies; little endian."""
    (directory,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, directory)
    entries = range(directory + 2, directory + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack_from("<H", body, at) == (wanted,)) + 8


def _with_values(body: bytes, values: dict[int, int]) -> bytes:
    """Change the values of tags, each in its place."""
    changed = bytearray(body)
    for tag, value in values.items():
        struct.pack_into("<H", changed, _entry(body, tag), value)
    return bytes(changed)


def _moved(body: bytes, tag: int) -> bytes:
    at = _entry(body, tag)
    return body[:at] + struct.pack("<I", len(body) - 9) + body[at + 4 :]


def _shortened(body: bytes, share: float) -> bytes:
    """Let the only strip have fewer bytes."""
    at = _entry(body, 279)
    (size,) = struct.unpack_from("<I", body, at)
    return body[:at] + struct.pack("<I", int(size * share)) + body[at + 4 :]


def _bmp() -> _Files:
    rows = packed(scene(), 8)
    yield "bmp-half-the-rows", bmp_file(WIDTH, HEIGHT, rows[: HEIGHT // 2], depth=24)
    yield "bmp-32-half-the-rows", bmp_file(WIDTH, HEIGHT, rows[: HEIGHT // 2], depth=32)
    words = [bytes(2 * WIDTH)] * (HEIGHT - 1)
    masks = (0xF00, 0xF0, 0xF)
    yield (
        "bmp-masks-row-missing",
        bmp_file(WIDTH, HEIGHT, words, depth=16, compression=3, masks=masks),
    )
    colours = bytes(4 * 256)
    for name, runs in (
        ("no", b""),
        ("one-row-of", b"\5\7\0\0"),
        ("cut", b"\5\7\0\0\0\5\1\2"),
        ("odd", b"\5\7\0\0\3"),
        ("half-a-step", b"\5\7\0\0\0\2\1"),
    ):
        yield (
            f"bmp-{name}-runs",
            bmp_file(5, 2, [runs], depth=8, compression=1, palette=colours)[
                : -(-len(runs) % 4) or None
            ],
        )


def _heif() -> _Files:
    noise = np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, coded in (("avif", coded_avif(noise)), ("heic", coded_of(heic_sample("scene")))):
        file = heif_file([coded])
        yield f"{name}-cut", file[:-9]
        for missing in (1, 60):
            whole = replace(coded, content=coded.content[:-missing])
            yield f"{name}-picture-cut-by-{missing}", heif_file([whole])
        yield f"{name}-too-narrow", heif_file([replace(coded, width=coded.width + 40)])
        yield f"{name}-too-low", heif_file([replace(coded, height=2 * coded.height)])
        tiles = [coded, replace(coded, content=coded.content[:-60])]
        yield f"{name}-tile-cut", heif_file(tiles, grid=(1, 2, 128, 64))
        missing_tile = heif_file([coded], grid=(1, 2, 128, 64))
        yield f"{name}-tile-missing", missing_tile
    heic = coded_of(heic_sample("scene"))
    for missing in (60, 200):
        # The slice says that it is shorter, so that the container is whole.
        size = len(heic.content) - 4 - missing
        content = size.to_bytes(4, "big") + heic.content[4 : 4 + size]
        yield f"heic-slice-cut-by-{missing}", heif_file([replace(heic, content=content)])
