"""The image in a JSON document: base64, or a data URL."""

from __future__ import annotations

import base64
import codecs
import re

import msgspec

from service.api.errors import MalformedRequestError

DATA_URL = re.compile(
    r"\s*data:(?P<type>[^;,]{0,255})(?P<parameters>(;[^;,]{0,255}){0,8}),", re.IGNORECASE
)

ESCAPES = (("%2B", "+"), ("%2b", "+"), ("%2F", "/"), ("%2f", "/"), ("%3D", "="), ("%3d", "="))
"""Letters of base64 that a URL may write otherwise (RFC 2397, section 3). Each is replaced at once:
to decode any escape would make millions of pieces of a large body."""

MAX_FAULT = 200
"""Characters of a parser's message that are repeated: it may hold a key of any length."""

_QUOTES_OF_ONE_FIELD = 4

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n"


class _ImageDocument(msgspec.Struct, forbid_unknown_fields=True):
    image: str


def image_in_json(body: bytes) -> tuple[bytes, str | None]:
    """Find the image in ``{"image": "<base64 or data URL>"}``.

    Base64 may have line breaks, the URL-safe alphabet (RFC 4648, section 5) and no padding. The
    document may begin with a byte order mark.

    Returns:
        The image's bytes, and the type that a data URL declares.

    Raises:
        MalformedRequestError: if the document is not of this form or has anything beside it.
    """
    try:
        text = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8), type=_ImageDocument).image
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(
            f'The body has to be JSON like {{"image": "<base64>"}}: {str(error)[:MAX_FAULT]}.'
        ) from error
    # Every key is image, and of equal ones the parser takes the last.
    if quotes_in(body) > _QUOTES_OF_ONE_FIELD:
        raise MalformedRequestError("The body has the key image more than once.")
    return image_in_text(text, "The field image")


def quotes_in(body: bytes) -> int:
    """Return how many quotes begin or end a string of a JSON document.

    More than those of the values that a parser returned mean that a key was given twice: of equal
    keys it takes the last.
    """
    return body.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"')


def image_in_text(text: str, name: str) -> tuple[bytes, str | None]:
    """Decode an image that is written as base64 or a data URL, as ``image_in_json`` says.

    Args:
        text: the image.
        name: of its place, for messages.

    Raises:
        MalformedRequestError: if it is neither.
    """
    url = DATA_URL.match(text)
    if url is None:
        return _from_base64(text, name), None
    if not url["parameters"].replace(" ", "").lower().endswith(";base64"):
        raise MalformedRequestError(f"{name} is a data URL that is not base64.")
    data = text[url.end() :]
    for escaped, letter in ESCAPES:
        data = data.replace(escaped, letter)
    return _from_base64(data, name), url["type"].strip() or None


def _from_base64(text: str, name: str) -> bytes:
    try:
        # Padding is optional: it is taken off and made anew.
        letters = text.encode("ascii").translate(_TO_STANDARD, _BLANKS).rstrip(b"=")
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except ValueError as error:  # not base64, or not ASCII
        fetched = " URLs are never fetched." if text.startswith(("http:", "https:")) else ""
        raise MalformedRequestError(f"{name} is not base64: {error}.{fetched}") from error
