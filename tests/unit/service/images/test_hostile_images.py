"""Files made to cost more than they are worth: limits come before work, and work is bounded."""

from __future__ import annotations

import gc
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from service.api.errors import InvalidImageError, ServiceError, UnsupportedMediaError
from service.images.decode import DecodedImage, ImageLimits, decode_image
from support.image_mutations import mutations
from support.image_references import scene
from support.image_samples import BadSample, bad_samples, good_samples
from support.image_writers import bmp_file, encoded, jpeg_in_scans, png_chunk, png_file, tiff_file

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768)
MEGABYTE = 2**20

BOMBS = {name: sample for name, sample in bad_samples().items() if sample.status == 413}


def decode(body: bytes) -> DecodedImage:
    return decode_image(body, content_type=None, limits=LIMITS)


@contextmanager
def bounded(cpu_seconds: float, memory_bytes: int | None = None) -> Iterator[None]:
    """Fail if the block takes more; this thread's time, so that a busy machine does not count.

    Nor do objects of earlier tests, which Python may look through meanwhile.
    """
    gc.disable()
    if memory_bytes is not None:
        tracemalloc.start()
    started = time.thread_time()
    try:
        yield
        taken_seconds = time.thread_time() - started
        peak_bytes = tracemalloc.get_traced_memory()[1] if memory_bytes is not None else 0
    finally:
        tracemalloc.stop()
        gc.enable()
    assert taken_seconds < cpu_seconds
    assert memory_bytes is None or peak_bytes < memory_bytes


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bomb_is_refused_at_once_and_never_reaches_pillow(
    bomb: BadSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow was asked"))
    # 1 to 3 ms in truth.
    with bounded(0.1, MEGABYTE), pytest.raises(ServiceError):
        decode(bomb.body)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_metadata_of_png_are_not_inflated(chunk: bytes) -> None:
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[chunk]
    bomb = png_chunk(chunk, head + zlib.compress(bytes(MEGABYTE)))
    png = encoded(scene(), "PNG")
    body = png[:33] + bomb * 1000 + png[33:]
    with bounded(0.25, 8 * MEGABYTE):
        assert (np.asarray(decode(body).image) == scene()).all()


def test_many_exif_segments_of_jpeg_are_not_joined() -> None:
    jpeg = encoded(scene(), "JPEG")
    long, short = (
        b"\xff\xe1" + struct.pack(">H", 8 + n) + b"Exif\0\0" + bytes(n) for n in (60_000, 1)
    )
    body = jpeg[:2] + long * 50 + short * 50_000 + jpeg[2:]
    # Pillow alone copies 3 MB for each of the short ones: half a minute.
    with bounded(1.0):
        assert decode(body).image.tobytes() == decode(jpeg).image.tobytes()


def test_fill_bytes_of_jpeg_take_linear_time() -> None:
    jpeg = encoded(scene(), "JPEG")
    with bounded(1.0):
        decode(jpeg[:2] + b"\xff" * 4_000_000 + jpeg[2:])


def test_jpeg_with_too_many_tables_is_refused() -> None:
    jpeg = encoded(scene(), "JPEG")
    tables = b"\xff\xdb" + struct.pack(">H", 65_002) + (b"\0" + bytes(range(1, 65))) * 1000
    with pytest.raises(InvalidImageError, match="header"):
        decode(jpeg[:2] + tables * 5 + jpeg[2:])


def test_jpeg_with_the_most_scans_is_decoded() -> None:
    jpeg = jpeg_in_scans([np.full((8, 8), level, np.uint8) for level in (99, 128, 128)])
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert decode(jpeg[:-2] + last * 29 + jpeg[-2:]).image.tobytes() == decode(jpeg).image.tobytes()
    with pytest.raises(InvalidImageError, match="33 scans; the limit is 32"):
        decode(jpeg[:-2] + last * 30 + jpeg[-2:])


def test_progressive_jpeg_does_not_hide_in_tiff() -> None:
    jpeg = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    with pytest.raises(UnsupportedMediaError, match="progressive"):
        decode(tiff_file(64, 64, [jpeg], {259: [7]}))


def test_two_bytes_that_look_like_a_jpeg_scan_are_allowed_in_other_strips() -> None:
    rows = np.frombuffer(b"\xff\xda" * 32, np.uint8).reshape(8, 8)
    stored = zlib.compress(rows.tobytes(), 0)
    decoded = decode(tiff_file(8, 8, [stored], {259: [8]}))
    assert (np.asarray(decoded.image)[..., 0] == rows).all()


def test_overlapping_tiles_of_tiff_are_refused_before_they_are_read() -> None:
    tags = {322: [16], 323: [16]}
    body = tiff_file(4096, 4096, [b"x"] * 65_536, tags, offsets_tag=324)
    # Pillow alone needs 12 s for these 0.7 MB.
    with bounded(1.0), pytest.raises(InvalidImageError, match="overlap"):
        decode(body)


def test_tile_far_larger_than_the_image_gets_no_memory() -> None:
    tags = {322: [65_520], 323: [65_520], 259: [8]}
    with pytest.raises(InvalidImageError, match="too large"):
        decode(tiff_file(16, 16, [zlib.compress(b"x")], tags, offsets_tag=324))


def test_strip_that_claims_more_bytes_than_the_file_has_is_refused() -> None:
    strip = zlib.compress(bytes(64))
    body = tiff_file(8, 8, [strip], {259: [8]})
    size = struct.pack("<HHII", 279, 4, 1, len(strip))
    with pytest.raises(InvalidImageError, match="sizes"):
        decode(body.replace(size, size[:8] + b"\xff\xff\xff\x7f"))


def test_lists_that_share_their_bytes_are_refused() -> None:
    body = tiff_file(1, 200, [b"x"] * 200, {278: [1]})
    # The byte counts lie where the offsets lie; Pillow would warn, and go on without them.
    counts = body.index(struct.pack("<HHI", 279, 4, 200)) + 8
    offsets = body.index(struct.pack("<HHI", 273, 4, 200)) + 8
    body = body[:counts] + body[offsets : offsets + 4] + body[counts + 4 : -800]
    with pytest.raises(InvalidImageError, match="outside"):
        decode(body)


def test_directory_with_too_many_entries_or_values_is_refused_quickly() -> None:
    entry = struct.pack("<HHII", 273, 4, 2**31, 8)
    body = b"II*\0" + struct.pack("<IH", 8, 65_535) + entry * 65_535 + bytes(4)
    with bounded(1.0), pytest.raises(InvalidImageError):
        decode(body)


@pytest.mark.parametrize("extension", [b"!\xfe\0", b"!\xfe" + b"\1a" * 1000 + b"\0"])
def test_gif_with_a_million_pieces_is_given_up(extension: bytes) -> None:
    gif = good_samples()["gif-grey"].body
    image = gif.index(b",\0\0\0\0")
    body = gif[:image] + extension * (3_000_000 // len(extension)) + gif[image:]
    with bounded(4.0), pytest.raises(InvalidImageError, match="pieces"):
        decode(body)


def test_png_with_too_many_chunks_is_given_up() -> None:
    png = encoded(scene(), "PNG")
    with bounded(1.0), pytest.raises(InvalidImageError, match="100000 chunks"):
        decode(png[:33] + png_chunk(b"prVt", b"") * 100_000 + png[33:])


def test_bmp_with_a_million_runs_is_given_up() -> None:
    steps = b"\0\2\0\0" * 1_000_001
    body = bmp_file(4, 4, [steps], depth=8, compression=1, palette=bytes(1024))
    with bounded(4.0), pytest.raises(InvalidImageError, match="1000000 runs"):
        decode(body)


def test_pixels_behind_the_last_row_are_not_inflated() -> None:
    png = png_file(32, 24, [bytes(96)] * 24)
    pixels = zlib.compress(bytes(97 * 24) + bytes(500 * MEGABYTE // 10))
    body = png[:33] + png_chunk(b"IDAT", pixels) + png[-12:]
    with bounded(0.25, 2 * MEGABYTE):
        decode(body)
    strips = [zlib.compress(bytes(MEGABYTE))] * 200
    with bounded(1.0, 8 * MEGABYTE):
        decode(tiff_file(8, 200, strips, {259: [8], 278: [1]}))


def test_frames_are_counted_up_to_a_thousand() -> None:
    gif = encoded(scene()[..., 0], "GIF")
    frame = b",\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0"
    assert decode(gif[:-1] + frame * 41 + b";").frames == 42
    with bounded(0.5):
        assert decode(gif[:-1] + frame * 200_000 + b";").frames == 1000


def test_animation_that_claims_two_billion_frames_has_a_thousand() -> None:
    png = encoded(scene(), "PNG")
    claim = png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    assert decode(png[:33] + claim + png[33:]).frames == 1000


def test_pages_that_lead_back_to_the_first_are_counted_once() -> None:
    body = good_samples()["tiff-strips"].body
    first = int.from_bytes(body[4:8], "little")
    link = first + 2 + 12 * int.from_bytes(body[first : first + 2], "little")
    assert decode(body[:link] + body[4:8] + body[link + 4 :]).frames == 2


def test_damaged_files_give_an_image_or_a_problem_and_nothing_else() -> None:
    outcomes = []
    for body in islice(mutations(seed=1), 2000):
        try:
            assert decode(body).image.mode == "RGB"
            outcomes.append(200)
        except ServiceError as error:
            outcomes.append(error.status)
    assert set(outcomes) == {200, 413, 415, 422}
