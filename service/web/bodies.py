"""Content codings of bodies."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from service.api.errors import BodyTooLargeError, MalformedRequestError, UnsupportedCodingError

if TYPE_CHECKING:
    from starlette.datastructures import Headers

INFLATED_STEP_BYTES = 64 * 1024
"""Bytes that are decompressed at once."""

CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
"""Content codings, and zlib's ``wbits`` for each. Source: RFC 9110, section 8.4.1."""


def content_coding(headers: Headers) -> str | None:
    """Return the coding of a body, one of ``CODINGS``; None if it comes as it is.

    Raises:
        UnsupportedCodingError: for another coding, or for several.
    """
    header = ",".join(headers.getlist("content-encoding")).lower()
    codings = [coding for part in header.split(",") if (coding := part.strip()) != "identity"]
    if codings in ([], [""]):
        return None
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise UnsupportedCodingError(coding=header[:80])
    return codings[0]


def inflate(body: bytes, coding: str, *, limit_bytes: int) -> bytes:
    """Decompress a body.

    Args:
        body: compressed, complete.
        coding: one of ``CODINGS``; deflate may come without zlib's header, as some clients send it.
        limit_bytes: largest result; no more than that is ever held.

    Raises:
        BodyTooLargeError: if the result would be larger.
        MalformedRequestError: if the body is damaged or incomplete, or something follows it.
    """
    has_header = coding != "deflate" or int.from_bytes(body[:2], "big") % 31 == 0
    inflater = zlib.decompressobj(CODINGS[coding] if has_header else -zlib.MAX_WBITS)
    parts, inflated_bytes = [], 0
    try:
        for start in range(0, len(body), INFLATED_STEP_BYTES):
            rest = body[start : start + INFLATED_STEP_BYTES]
            while rest and not inflater.eof:
                parts.append(inflater.decompress(rest, INFLATED_STEP_BYTES))
                rest = inflater.unconsumed_tail
                inflated_bytes += len(parts[-1])
                if inflated_bytes > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
            if inflater.eof and (rest or inflater.unused_data):
                raise MalformedRequestError(f"Bytes follow the end of the {coding} body.")
    except zlib.error as error:
        raise MalformedRequestError(f"The body is no intact {coding}: {error}.") from error
    if not inflater.eof:
        raise MalformedRequestError(f"The {coding} body ends before it is complete.")
    return b"".join(parts)
