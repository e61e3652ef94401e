"""Bodies in chunks, however they are cut into pieces."""

from __future__ import annotations

import pytest

from service.api.errors import (
    BodyTooLargeError,
    HeadTooLargeError,
    MalformedRequestError,
    ServiceError,
)
from service.web.http.chunks import Chunked
from service.web.http.head_limits import MAX_HEAD_BYTES

BODY = b'3;a="b";c\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n'


def take(data: bytes, step_bytes: int) -> tuple[bytes, bytes, bool]:
    """Return the body, what is left, and whether the body is complete."""
    body, taken, rest = Chunked(), b"", b""
    for start in range(0, len(data), step_bytes):
        rest += data[start : start + step_bytes]
        if not body.complete:
            part, rest = body.take(rest)
            taken += part
    return taken, rest, body.complete


@pytest.mark.parametrize("step_bytes", [*range(1, 20), 1000])
def test_chunks_are_joined_and_what_follows_is_left(step_bytes: int) -> None:
    assert take(BODY + b"GET /", step_bytes) == (b"abc0123456789", b"GET /", True)


def test_a_body_is_complete_only_after_its_trailers() -> None:
    for end in range(len(BODY)):
        assert not take(BODY[:end], 1000)[2]


@pytest.mark.parametrize("step_bytes", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x\r\n", MalformedRequestError),
        (b"\r\n", MalformedRequestError),
        (b"-1\r\n", MalformedRequestError),
        (b"0x3\r\n", MalformedRequestError),
        (b"3\nabc", MalformedRequestError),
        (b"3\r\nabcd", MalformedRequestError),
        (b"3\r\nabc\nx", MalformedRequestError),
        (b"3;\0\r\n", MalformedRequestError),
        (b"0\r\nno trailer\r\n", MalformedRequestError),
        (b"0\r\n folded: x\r\n", MalformedRequestError),
        (b"0\r\na: \0\r\n", MalformedRequestError),
        (b"F" * 16 + b"\r\n", BodyTooLargeError),
        (b"1;" + b"x" * MAX_HEAD_BYTES + b"\r\n", HeadTooLargeError),
        (b"0\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES, HeadTooLargeError),
        ((b"1;" + b"x" * 1000 + b"\r\na\r\n") * 100, HeadTooLargeError),
    ],
)
def test_what_are_no_chunks_is_refused(
    data: bytes, error: type[ServiceError], step_bytes: int
) -> None:
    with pytest.raises(error):
        take(data, step_bytes)


def test_a_line_of_just_the_limit_is_taken_in_pieces_and_as_a_whole() -> None:
    data = b"1;" + b"x" * (MAX_HEAD_BYTES - 2) + b"\r\na\r\n0\r\n\r\n"
    assert take(data, 1000) == take(data, 10**6) == (b"a", b"", True)
