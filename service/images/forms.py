"""The image in a multipart form."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser, parse_options_header

from service.api.errors import MalformedRequestError

MAX_PARTS = 8
"""Maximum number of parts of a form that is refused by the names of its parts."""

IMAGE_FIELD = "image"


@dataclass(frozen=True)
class _Part:
    name: str
    body: bytes
    content_type: str | None
    is_file: bool


def image_in_form(body: bytes, content_type: str) -> tuple[bytes, str | None]:
    """Find the image in a form: its part ``image``, or its only file whatever its name.

    Args:
        body: complete.
        content_type: the request's header, with the boundary.

    Returns:
        The part's bytes and the type that it declares.

    Raises:
        MalformedRequestError: if the form is damaged, has no end, has no image, or has anything
            beside it.
    """
    parts = _parse(body, content_type)
    images = [part for part in parts if part.name == IMAGE_FIELD]
    if len(parts) == 1 and parts[0].is_file:
        images = parts
    if not images:
        raise MalformedRequestError(f"The form has no part named image; it has {_names(parts)}.")
    if len(images) > 1:
        raise MalformedRequestError(f"The form has {len(images)} parts named image; send one.")
    others = [part for part in parts if part not in images]
    if others:
        raise MalformedRequestError(f"Beside image the form has {_names(others)}; send it alone.")
    return images[0].body, images[0].content_type


def _parse(body: bytes, content_type: str) -> list[_Part]:
    """Return the parts of a form; raise if it is damaged or has no end."""
    parts: list[_Part] = []
    ended = False

    def keep(name: bytes | None, value: bytes, declared: str | None, *, is_file: bool) -> None:
        parts.append(_Part((name or b"").decode("utf-8", "replace"), value, declared, is_file))
        if len(parts) > MAX_PARTS:
            raise MalformedRequestError(
                f"The form has more than {MAX_PARTS} parts: {_names(parts)}; send image alone."
            )

    def on_field(field: Field) -> None:
        keep(field.field_name, field.value or b"", None, is_file=False)

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        keep(file.field_name, file.file_object.read(), file.content_type, is_file=True)

    def on_end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = create_form_parser(
            {"Content-Type": content_type.encode("latin-1")},
            on_field,
            on_file,
            # The body is already in memory: no part is written to disk.
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "UPLOAD_ERROR_ON_BAD_CTE": True},
        )
        parser.on_end = on_end
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequestError(f"The multipart body cannot be parsed: {error}") from error
    if not ended:
        raise MalformedRequestError("The form has no end: the closing boundary is missing.")
    # The parser drops what follows, which could be another image.
    boundary = parse_options_header(content_type)[1][b"boundary"]
    end = b"\r\n--%b--" % boundary
    if body[body.find(end) + len(end) :].strip(b" \t\r\n"):
        raise MalformedRequestError("The form has more bytes after its closing boundary.")
    return parts


def _names(parts: list[_Part]) -> str:
    return ", ".join(sorted({reprlib.repr(part.name) for part in parts})) or "nothing"
