"""Intact files of kinds that are not decoded, each with words that name the kind."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from support.heif_files import box, coded_avif, coded_of, crop, heic_sample, heif_file, rotation
from support.image_references import scene
from support.image_writers import bmp_file, encoded, png_chunk, png_file, tiff_file

_Kinds = Iterator[tuple[str, bytes, str]]


def undecoded_images() -> _Kinds:
    """Yield each file's name, the file, and the name of its kind."""
    for group in (_jpeg, _tiff, _bmp, _heif, _others):
        yield from group()
    png = encoded(scene(), "PNG")
    yield "png-of-apple", png[:8] + png_chunk(b"CgBI", b"P\0 \2") + png[8:], "Apple's own variant"


def _jpeg() -> _Kinds:
    jpeg = encoded(scene(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")

    def with_frame(marker: int, precision: int = 8) -> bytes:
        head = jpeg[:frame] + bytes([0xFF, marker]) + jpeg[frame + 2 : frame + 4]
        return head + bytes([precision]) + jpeg[frame + 5 :]

    yield "jpeg-lossless", with_frame(0xC3), "Lossless JPEG"
    yield "jpeg-lossless-16", with_frame(0xC3, 16), "Lossless JPEG"
    yield "jpeg-hierarchical", with_frame(0xC5), "Hierarchical JPEG"
    yield "jpeg-arithmetic", with_frame(0xC9), "Arithmetic-coded JPEG"
    yield "jpeg-arithmetic-progressive", with_frame(0xCA), "Arithmetic-coded JPEG"
    yield "jpeg-arithmetic-lossless", with_frame(0xCB), "Lossless arithmetic-coded JPEG"
    yield "jpeg-ls", with_frame(0xF7), "JPEG-LS"
    yield "jpeg-12", with_frame(0xC1, 12), "12-bit JPEG"
    two = jpeg[: frame + 3] + b"\x0e" + jpeg[frame + 4 : frame + 9] + b"\2"
    yield (
        "jpeg-2-components",
        two + jpeg[frame + 10 : frame + 16] + jpeg[frame + 19 :],
        "2 components",
    )
    no_height = jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 : -2]
    lines = b"\xff\xdc\0\4" + struct.pack(">H", scene().shape[0])
    yield "jpeg-height-behind", no_height + lines + b"\xff\xd9", "height behind"


def _tiff() -> _Kinds:
    def file(tags: dict[int, Sequence[int]], *, pixel_bytes: int = 64) -> bytes:
        return tiff_file(2, 1, [bytes(2 * pixel_bytes)], tags)

    floats = Image.fromarray(np.ones((4, 4), np.float32))
    yield "tiff-float", encoded(floats, "TIFF"), "floating-point"
    yield "tiff-32-bits", encoded(Image.new("I", (4, 4)), "TIFF"), "signed or floating"
    yield "tiff-12-bits", file({258: [12]}), "of other than 1, 2, 4, 8 or 16 bits"
    yield "tiff-signed", file({258: [16], 339: [2]}), "signed"
    yield "tiff-16-white-is-zero", file({258: [16], 262: [0]}), "white by zero"
    tags: dict[int, Sequence[int]] = {258: [16] * 3, 262: [2], 277: [3], 284: [2]}
    yield "tiff-16-planes", tiff_file(2, 1, [bytes(4)] * 3, tags), "separate planes"
    tags = {258: [8] * 3, 262: [6], 277: [3], 530: [2, 2]}
    yield "tiff-subsampled", tiff_file(2, 2, [bytes(6)], tags), "subsampled"
    for number in (6, 34712, 34925, 50000, 50001, 50002):
        yield f"tiff-compression-{number}", file({259: [number]}), f"compression {number}"
    for number in (4, 9, 32803, 34892):
        yield f"tiff-photometric-{number}", file({262: [number]}), f"interpretation {number}"
    yield "tiff-preview", file({254: [1]}), "preview"
    yield "tiff-9-samples", file({258: [8] * 9, 277: [9]}), "9 values in tag 258"
    yield "tiff-palette-16", file({258: [16], 262: [3], 320: [0] * 9}), "palettes of 16 bits"
    yield "tiff-2-bit-rgb", file({258: [2] * 3, 262: [2], 277: [3]}), "combination"
    yield "bigtiff-float", encoded(floats, "TIFF", big_tiff=True), "floating-point"
    jpeg = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    yield "tiff-progressive-jpeg", tiff_file(64, 64, [jpeg], {259: [7]}), "progressive"
    jpeg = encoded(Image.new("L", (64, 64)), "JPEG").replace(b"\xff\xc0", b"\xff\xc3")
    yield "tiff-lossless-jpeg", tiff_file(64, 64, [jpeg], {259: [7]}), "Lossless JPEG"


def _bmp() -> _Kinds:
    rows = [bytes(16)] * 4
    jpeg, png = encoded(scene(), "JPEG"), png_file(4, 4, [bytes(12)] * 4)
    yield "bmp-jpeg", bmp_file(4, 4, [jpeg], depth=0, compression=4), "JPEG inside"
    yield "bmp-png", bmp_file(4, 4, [png], depth=0, compression=5), "PNG inside"
    yield "bmp-cmyk", bmp_file(4, 4, rows, depth=32, compression=11), "CMYK"
    yield "bmp-64", bmp_file(4, 4, rows * 2, depth=64), "64 bits"
    body = bmp_file(4, 4, rows, depth=8, palette=bytes(1024))
    os2 = body[:14] + struct.pack("<I", 64) + body[18:30] + struct.pack("<I", 3) + body[34:]
    yield "bmp-os2-huffman", os2, "OS/2"
    short = body[:14] + struct.pack("<I", 16) + body[18:]
    yield "bmp-short-header", short, "a header of 16 bytes"


def _heif() -> _Kinds:
    avif = coded_avif(np.zeros((64, 64, 3), np.uint8))
    heic = coded_of(heic_sample("scene"))
    yield "heif-h264", heif_file([replace(heic, kind=b"avc1")]), "type avc1"
    yield "heif-overlay", heif_file([replace(heic, kind=b"iovl")]), "type iovl"
    yield "heic-jpeg", heif_file([replace(heic, kind=b"jpeg")]), "type jpeg"
    yield (
        "avif-cropped-behind-a-rotation",
        heif_file([avif], properties=[rotation(1), crop(8, 8)]),
        "crop behind a rotation",
    )
    video = box(b"ftyp", b"avis" + bytes(4) + b"avis") + box(b"moov", box(b"mvhd", bytes(100)))
    yield "avif-video", video, "without a still picture"


def _others() -> _Kinds:
    for format_name, kind in (
        ("ICO", "ICO"),
        ("JPEG2000", "JPEG 2000"),
        ("PDF", "PDF"),
        ("PPM", "PNM"),
        ("SGI", "SGI"),
        ("PCX", "PCX"),
        ("ICNS", "ICNS"),
        ("DDS", "DDS"),
        ("QOI", "QOI"),
    ):
        yield format_name.lower(), encoded(Image.fromarray(scene()), format_name), kind
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"
    yield "svg-declared", b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="9"/>', "SVG"
    yield "mp4", b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "MP4"
    yield "cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3"
    yield "psd", b"8BPS\0\1" + bytes(20), "PSD"
    yield "jpeg-xl", b"\xff\x0a" + bytes(20), "JPEG XL"
    yield "jpeg-xl-boxed", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"
    yield "webm", b"\x1aE\xdf\xa3" + bytes(20), "WebM"
    yield "avi", b"RIFF\x24\0\0\0AVI LIST", "AVI"
    yield "djvu", b"AT&TFORM" + bytes(20), "DjVu"
    yield "zip", b"PK\3\4" + bytes(30), "ZIP"
