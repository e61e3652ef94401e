"""Content codings of bodies."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from service.api.errors import BodyTooLargeError, MalformedRequestError, UnsupportedCodingError

if TYPE_CHECKING:
    from starlette.datastructures import Headers

MAX_MEMBERS = 1024
"""Most members of a gzip body; tools that write several put 64 KiB and more into each."""

INFLATED_STEP_BYTES = 64 * 1024
"""Bytes that are decompressed at once."""

CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
"""Content codings, and zlib's ``wbits`` for each. Source: RFC 9110, section 8.4.1."""

ZLIB_METHOD = 8
"""Lower half of the first byte of zlib's header. In deflate alone it would begin a stored block
whose padding is not zero, which no encoder writes. Source: RFC 1950, section 2.2."""


def content_coding(headers: Headers) -> str | None:
    """Return the coding of a body, one of ``CODINGS``; None if it comes as it is.

    Raises:
        UnsupportedCodingError: for another coding, or for several.
    """
    header = ",".join(headers.getlist("content-encoding")).lower()
    # Elements of a list may be empty (RFC 9110, section 5.6.1).
    codings = [c for part in header.split(",") if (c := part.strip()) not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise UnsupportedCodingError(coding=header[:80])
    return codings[0]


def inflate(body: bytes, coding: str, *, limit_bytes: int) -> bytes:
    """Decompress a body.

    Args:
        body: compressed, complete; gzip in one member or several (RFC 1952, section 2.2).
        coding: one of ``CODINGS``; deflate may come without zlib's header, as some clients send it.
        limit_bytes: largest result; no more than that is ever held.

    Raises:
        BodyTooLargeError: if the result would be larger.
        MalformedRequestError: if the body is damaged or incomplete, or something follows it.
    """
    is_gzip = coding != "deflate"
    has_header = is_gzip or _has_zlib_header(body)
    inflater = zlib.decompressobj(CODINGS[coding] if has_header else -zlib.MAX_WBITS)
    parts, inflated_bytes, members = [], 0, 1
    try:
        for start in range(0, len(body), INFLATED_STEP_BYTES):
            rest = body[start : start + INFLATED_STEP_BYTES]
            has_more = True
            while has_more:
                if inflater.eof:
                    if not is_gzip or members == MAX_MEMBERS:
                        raise MalformedRequestError(f"Bytes follow the end of the {coding} body.")
                    inflater = zlib.decompressobj(CODINGS[coding])
                    members += 1
                part = inflater.decompress(rest, INFLATED_STEP_BYTES)
                parts.append(part)
                inflated_bytes += len(part)
                if inflated_bytes > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                rest = inflater.unconsumed_tail or inflater.unused_data
                # A full part may leave output behind whose input is already taken.
                is_full = len(part) == INFLATED_STEP_BYTES and not inflater.eof
                has_more = bool(rest) or is_full
    except zlib.error as error:
        raise MalformedRequestError(f"The body is no intact {coding}: {error}.") from error
    if not inflater.eof:
        raise MalformedRequestError(f"The {coding} body ends before it is complete.")
    return b"".join(parts)


def _has_zlib_header(body: bytes) -> bool:
    return body[:1] != b"" and body[0] & 15 == ZLIB_METHOD and int.from_bytes(body[:2]) % 31 == 0
