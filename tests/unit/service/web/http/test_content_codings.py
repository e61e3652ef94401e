"""Compressed bodies."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
from starlette.datastructures import Headers

from service.api.errors import BodyTooLargeError, MalformedRequestError, UnsupportedCodingError
from service.web.http.content_codings import (
    INFLATED_STEP_BYTES,
    MAX_MEMBERS,
    content_coding,
    inflate,
)

PLAIN = np.random.default_rng(0).integers(0, 8, 300_000, np.uint8).tobytes()
CODED = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "raw deflate": zlib.compress(PLAIN, wbits=-15),
}


@pytest.mark.parametrize("coding", CODED)
def test_a_body_is_decompressed(coding: str) -> None:
    assert inflate(CODED[coding], coding.split()[-1], limit_bytes=len(PLAIN)) == PLAIN


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("excess", [-1, 0, 1, 40, 258, INFLATED_STEP_BYTES])
@pytest.mark.parametrize("plain", [bytes(2 * INFLATED_STEP_BYTES), PLAIN], ids=["zeros", "noise"])
def test_a_body_of_any_length_is_decompressed(plain: bytes, excess: int, coding: str) -> None:
    plain = plain[: INFLATED_STEP_BYTES + excess]
    window_bits = {"gzip": 31, "x-gzip": 31, "deflate": 15, "raw deflate": -15}[coding]
    body = zlib.compress(plain, wbits=window_bits)
    assert inflate(body, coding.split()[-1], limit_bytes=len(plain)) == plain


def test_deflate_without_a_header_is_not_taken_for_one_with_a_header() -> None:
    # Two bytes like those of zlib's header can begin a stream without one.
    coded = {bytes([level]): zlib.compress(bytes([level]), wbits=-15) for level in range(256)}
    alike = [plain for plain, body in coded.items() if int.from_bytes(body[:2]) % 31 == 0]
    assert alike
    for plain in alike:
        assert inflate(coded[plain], "deflate", limit_bytes=1) == plain


def test_gzip_may_have_several_members() -> None:
    body = b"".join(gzip.compress(PLAIN[start : start + 999]) for start in range(0, 300_000, 999))
    assert inflate(body, "gzip", limit_bytes=len(PLAIN)) == PLAIN
    with pytest.raises(MalformedRequestError):
        inflate(body[:-1], "gzip", limit_bytes=len(PLAIN))
    with pytest.raises(BodyTooLargeError):
        inflate(body, "gzip", limit_bytes=len(PLAIN) - 1)
    with pytest.raises(MalformedRequestError):
        inflate(gzip.compress(b"") * (MAX_MEMBERS + 1), "gzip", limit_bytes=len(PLAIN))


@pytest.mark.parametrize("coding", CODED)
def test_the_limit_counts_what_it_becomes(coding: str) -> None:
    with pytest.raises(BodyTooLargeError):
        inflate(CODED[coding], coding.split()[-1], limit_bytes=len(PLAIN) - 1)


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("length", [0, 1, 2, 10, 1000, -1])
def test_an_incomplete_body_is_refused(coding: str, length: int) -> None:
    with pytest.raises(MalformedRequestError):
        inflate(CODED[coding][:length], coding.split()[-1], limit_bytes=2**20)


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("more", [b"x", bytes(200_000)])
def test_bytes_behind_the_end_are_refused(coding: str, more: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        inflate(CODED[coding] + more, coding.split()[-1], limit_bytes=2**20)


def test_a_bomb_needs_no_more_memory_than_the_limit() -> None:
    compressor = zlib.compressobj(1)
    bomb = b"".join([*(compressor.compress(bytes(2**20)) for _ in range(500)), compressor.flush()])
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        inflate(bomb, "deflate", limit_bytes=2**20)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * 2**20


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"),
        (" GZIP ", "gzip"),
        ("identity", None),
        ("identity, deflate", "deflate"),
        ("gzip,", "gzip"),
        (" , ", None),
    ],
)
def test_a_coding_is_named_in_any_case(header: str, coding: str | None) -> None:
    assert content_coding(Headers({"content-encoding": header})) == coding


@pytest.mark.parametrize("header", ["br", "gzip, gzip", "gzip;q=1", "zstd"])
def test_other_codings_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedCodingError) as raised:
        content_coding(Headers({"content-encoding": header}))
    assert "gzip and deflate" in raised.value.detail
