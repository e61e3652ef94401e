"""Decoding of an image file to upright RGB pixels, after every limit was checked.

The steps: the signature, the container (size, frames, orientation; see
``service.images.containers``), the limits, and only then Pillow.

The format is found from the bytes, whatever type is declared. The declared type is looked at only
where the bytes are of no supported format, to say what is wrong.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from service.api.errors import ImageTooLargeError, InvalidImageError, UnsupportedMediaError
from service.images.containers.bmp import read_bmp
from service.images.containers.first_frame import FirstFrame
from service.images.containers.gif import read_gif
from service.images.containers.heif import read_avif, read_heic
from service.images.containers.jpeg import read_jpeg
from service.images.containers.png import read_png
from service.images.containers.tiff import read_tiff
from service.images.containers.webp import read_webp
from service.images.hevc import heic_unsupported_reason
from service.images.pillow import avif_unsupported_reason
from service.images.signatures import REFUSED_SIGNATURES, SUPPORTED_SIGNATURES

SIGNATURE_BYTES = 1024
"""Bytes searched for a signature; only SVG needs more than a few."""

SUPPORTED_MEDIA_TYPES = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
    "image/avif": "AVIF",
    "image/heic": "HEIC",
    "image/heif": "HEIC",
}
"""Media types that are accepted, each with Pillow's name for the format."""

MEDIA_TYPE_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/apng": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/avif-sequence": "image/avif",
    "image/heic-sequence": "image/heic",
    "image/heif-sequence": "image/heif",
}
"""Unregistered names in wide use, and equivalent ones."""

UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Types that storage and clients declare for files of any kind."""

_READERS: dict[str, Callable[[bytes], FirstFrame]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WEBP": read_webp,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "GIF": read_gif,
    "AVIF": read_avif,
    "HEIC": read_heic,
}

_UNSUPPORTED_REASONS = {"AVIF": avif_unsupported_reason, "HEIC": heic_unsupported_reason}
"""Of the formats that need more than every installation has."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAP_FROM = 5

DECODING_ERRORS = (OSError, ValueError)
"""What Pillow raised on 200,000 mutated files that the readers had accepted."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits of the images that are decoded.

    Attributes:
        max_pixels: width times height, inclusive.
        max_side: the longer of both, inclusive.
    """

    max_pixels: int
    max_side: int

    def check(self, width: int, height: int) -> None:
        """Check the size of an image.

        Raises:
            InvalidImageError: if it has no pixels.
            ImageTooLargeError: if it is over a limit.
        """
        if min(width, height) < 1:
            raise InvalidImageError(f"The image has no pixels: it is {width} x {height}.")
        if max(width, height) > self.max_side:
            limit = f"{self.max_side} on a side"
            raise ImageTooLargeError(width=width, height=height, limit=limit)
        if width * height > self.max_pixels:
            limit = f"{self.max_pixels} in all (OVERLOCK_MAX_IMAGE_PIXELS)"
            raise ImageTooLargeError(width=width, height=height, limit=limit)


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: mode RGB, upright; a large JPEG may have been reduced.
        width: of the upright original, pixels.
        height: of the upright original, pixels.
        frames: frames or pages of the file; only the first was decoded.
    """

    image: Image.Image
    width: int
    height: int
    frames: int


def media_type_format(content_type: str) -> str:
    """Return Pillow's name of the format that a ``Content-Type`` declares.

    Raises:
        UnsupportedMediaError: if the type is not supported.
    """
    media_type = _media_type(content_type)
    format_name = SUPPORTED_MEDIA_TYPES.get(MEDIA_TYPE_ALIASES.get(media_type, media_type))
    if format_name is None:
        raise UnsupportedMediaError(f"{media_type[:80]} is not supported; {_supported_types()}.")
    reason = _unsupported_reason(format_name)
    if reason is not None:
        raise UnsupportedMediaError(reason)
    return format_name


def decode_image(
    body: bytes,
    *,
    content_type: str | None,
    limits: ImageLimits,
    short_side_needed: int | None = None,
) -> DecodedImage:
    """Decode the first frame of an image. Thread-safe.

    Args:
        body: the file.
        content_type: the declared type; None if there is none.
        limits: checked before any pixel is decoded.
        short_side_needed: the short side to which the image will be resized; None if it is not
            known. A JPEG is then decoded to 1/2, 1/4 or 1/8 of its size, as long as twice this
            side remains: in a fraction of the time and with slightly different pixels.

    Raises:
        UnsupportedMediaError: the format is not supported.
        ImageTooLargeError: the image is over a limit.
        InvalidImageError: the bytes are not an intact image.
    """
    format_name = _true_format(body, _media_type(content_type or ""))
    frame = _read_container(body, format_name)
    width, height = frame.width, frame.height
    if frame.orientation >= _SIDES_SWAP_FROM:
        width, height = height, width
    limits.check(width, height)
    if frame.decoded is not None:
        limits.check(*frame.decoded)
    image = _decode(frame, format_name, short_side_needed)
    return DecodedImage(image, width, height, frame.frames)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _true_format(body: bytes, declared: str) -> str:
    format_name = format_of(body, SUPPORTED_SIGNATURES)
    if format_name is None:
        if declared not in UNTYPED:
            media_type_format(declared)
        if not body:
            raise InvalidImageError("The image is empty: it has 0 bytes.")
        refused = format_of(body, REFUSED_SIGNATURES)
        if refused:
            raise UnsupportedMediaError(f"{refused} is not supported; {_supported_types()}.")
        raise InvalidImageError(
            f"The bytes are not an image of a known format; {_supported_types()}."
        )
    reason = _unsupported_reason(format_name)
    if reason is not None:
        raise UnsupportedMediaError(reason)
    return format_name


def _supported_types() -> str:
    here = [kind for kind, name in SUPPORTED_MEDIA_TYPES.items() if not _unsupported_reason(name)]
    return f"supported are {', '.join(here)}"


def _unsupported_reason(format_name: str) -> str | None:
    reason = _UNSUPPORTED_REASONS.get(format_name)
    return None if reason is None else reason()


def _read_container(body: bytes, format_name: str) -> FirstFrame:
    try:
        return _READERS[format_name](body)
    except (struct.error, IndexError) as error:
        # A reader that runs over the file's end raises Python's own errors.
        raise InvalidImageError(f"The {format_name} file is truncated.") from error


def _decode(frame: FirstFrame, format_name: str, short_side_needed: int | None) -> Image.Image:
    try:
        rgb = frame.draw(short_side_needed)
    except DECODING_ERRORS as error:
        raise InvalidImageError(
            f"The {format_name} file is damaged, truncated or of a rare kind: "
            "its pixels cannot be decoded."
        ) from error
    turn = _TURNS.get(frame.orientation)
    return rgb if turn is None else rgb.transpose(turn)


def format_of(body: bytes, signatures: dict[str, bytes]) -> str | None:
    """Return the format whose signature the bytes have; None if there is none."""
    start = body[:SIGNATURE_BYTES]
    return next(
        (name for name, pattern in signatures.items() if re.match(pattern, start, re.DOTALL)), None
    )
