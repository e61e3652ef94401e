"""The image in a request's body, and the signatures of file formats."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.api.errors import UnsupportedMediaError
from service.images.forms import image_in_form
from service.images.json_images import image_in_json

SIGNATURE_BYTES = 1024
"""Bytes searched for a signature; only SVG needs more than a few."""


SUPPORTED_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
}
"""Formats that are decoded, by Pillow's names for them."""


REFUSED_SIGNATURES = {
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml[^\0]*|<!--[^\0]*|<!DOCTYPE svg[^\0]*)?<svg[\s>]",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)",
    "MP4 or QuickTime": rb"....ftyp",
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS",
    "ICO": rb"\0\0\x01\0",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "JPEG XR": rb"II\xbc\x01",
    "BigTIFF": rb"II\+\0|MM\0\+",
    "PSD": rb"8BPS",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
    "DDS": rb"DDS ",
    "QOI": rb"qoif",
    "PNM": rb"P[1-7]\s",
    "DICOM": rb".{128}DICM",
}
"""Known formats that are not decoded."""


@dataclass(frozen=True)
class Upload:
    """An encoded image.

    Attributes:
        body: its bytes.
        content_type: its declared media type; None if there is none.
    """

    body: bytes
    content_type: str | None


def find_image(body: bytes, content_type: str | None) -> Upload:
    """Find the image in a body: the body itself, a form's file, or base64 in JSON.

    A body that begins as an image is one, whatever its type says: curl, for example, declares
    ``application/x-www-form-urlencoded`` for any file. No form and no JSON begins like that.

    Args:
        body: complete.
        content_type: the request's header.

    Raises:
        MalformedRequestError: if the body does not match its content type, has no image, or has
            anything beside it.
        UnsupportedMediaError: if the content type cannot hold an image.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if format_of(body, SUPPORTED_SIGNATURES):
        return Upload(body, media_type or None)
    if media_type == "multipart/form-data":
        return Upload(*image_in_form(body, content_type or ""))
    if media_type == "application/json":
        return Upload(*image_in_json(body))
    if media_type == "application/x-www-form-urlencoded":
        # curl's default without -H.
        raise UnsupportedMediaError(
            "The content type is application/x-www-form-urlencoded, and the body begins as no "
            "supported image; send a file of an image (curl --data-binary @file), "
            "multipart/form-data or application/json."
        )
    return Upload(body, media_type or None)


def format_of(body: bytes, signatures: dict[str, bytes]) -> str | None:
    """Return the format whose signature the bytes have; None if there is none."""
    start = body[:SIGNATURE_BYTES]
    return next(
        (name for name, pattern in signatures.items() if re.match(pattern, start, re.DOTALL)), None
    )
