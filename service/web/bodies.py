"""Reads a request's body within its limits and finds the image in it."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser

from service.errors import (
    BodyTooLargeError,
    MalformedRequestError,
    UnsupportedMediaError,
    UploadTimeoutError,
)
from service.web.permits import Permit

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_PARTS = 8
"""Most parts of a multipart body; only ``image`` is looked at."""

IMAGE_FIELD = "image"

STALL_SECONDS = 10.0
"""A body of which nothing came for this long is not coming."""


@dataclass(frozen=True)
class Upload:
    """An encoded image as it came.

    Attributes:
        body: its bytes.
        content_type: the media type that the caller gave for it; None if none.
    """

    body: bytes
    content_type: str | None


async def read_body(
    request: Request, *, limit_bytes: int, deadline: float, permit: Permit
) -> bytes:
    """Receive the body, counting.

    Args:
        request: whose body was not touched yet.
        limit_bytes: largest body.
        deadline: monotonic moment by which it has to be complete.
        permit: holds its bytes.

    Raises:
        BodyTooLargeError: by the declared length, or as soon as the count passes the limit.
        MemoryFullError: the same, where the body is small enough but there are many.
        UploadTimeoutError: if it is not complete in time, or stalls.
        ClientDisconnect: if the client left.
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdigit():
        if int(declared) > limit_bytes:
            raise BodyTooLargeError(limit_bytes=limit_bytes, declared_bytes=int(declared))
        permit.hold(int(declared))
    started, received, chunks = time.monotonic(), 0, []
    try:
        async with asyncio.timeout(None) as patience:
            loop = asyncio.get_running_loop()
            last_moment = loop.time() + deadline - started
            patience.reschedule(min(last_moment, loop.time() + STALL_SECONDS))
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                permit.hold(received)
                chunks.append(chunk)
                patience.reschedule(min(last_moment, loop.time() + STALL_SECONDS))
    except TimeoutError:
        raise UploadTimeoutError(
            limit_seconds=time.monotonic() - started, received_bytes=received
        ) from None
    return b"".join(chunks)


def find_image(body: bytes, content_type: str | None) -> Upload:
    """Find the image in a body: the body itself, a multipart field, or base64 in JSON.

    Args:
        body: complete.
        content_type: the request's header.

    Raises:
        MalformedRequestError: if the body is not what the content type says, or has no image.
        UnsupportedMediaError: for a content type that can hold no image.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return _from_multipart(body, content_type or "")
    if media_type == "application/json":
        return _from_json(body)
    if media_type == "application/x-www-form-urlencoded":
        # What curl says when -H is forgotten.
        raise UnsupportedMediaError(
            "The content type is application/x-www-form-urlencoded; send an image type such as "
            "image/jpeg, multipart/form-data or application/json."
        )
    return Upload(body, media_type or None)


class _ImageDocument(msgspec.Struct):
    image: str


def _from_json(body: bytes) -> Upload:
    try:
        document = msgspec.json.decode(body, type=_ImageDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(
            f'The body has to be JSON like {{"image": "<base64>"}}: {error}.'
        ) from error
    try:
        return Upload(base64.b64decode(document.image, validate=True), None)
    except ValueError as error:  # not base64, or not even ASCII
        raise MalformedRequestError(f"The field image is no base64: {error}.") from error


def _from_multipart(body: bytes, content_type: str) -> Upload:
    parts: list[tuple[str, Upload]] = []

    def keep(name: bytes | None, upload: Upload) -> None:
        parts.append(((name or b"").decode("utf-8", "replace"), upload))
        if len(parts) > MAX_PARTS:
            raise MalformedRequestError(f"The form has more than {MAX_PARTS} parts.")

    def on_field(field: Field) -> None:
        keep(field.field_name, Upload(field.value or b"", None))

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        keep(file.field_name, Upload(file.file_object.read(), file.content_type))

    try:
        parser = create_form_parser(
            {"Content-Type": content_type.encode("latin-1")},
            on_field,
            on_file,
            # The body is in memory already: no part goes to a disk.
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "UPLOAD_ERROR_ON_BAD_CTE": True},
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequestError(f"The multipart body cannot be parsed: {error}") from error
    image = next((upload for name, upload in parts if name == IMAGE_FIELD), None)
    if image is None:
        names = ", ".join(sorted({name for name, _ in parts})) or "nothing"
        raise MalformedRequestError(f"The form has no part named image; it has {names}.")
    return image
