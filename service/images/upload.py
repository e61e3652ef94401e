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
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    # Some writers name only the container; then the compatible brands tell the codec.
    "AVIF": rb"....ftyp(avi[fs]|(mif1|msf1|miaf).{0,120}avi[fs])",
    "HEIC": rb"....ftyp(hei[cfmsx]|hev[cmsx]|mif1|msf1)",
}
"""Formats that are decoded, by Pillow's names for them."""


SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIC": (".heic", ".heif", ".hif", ".heics"),
}
"""Suffixes of their files, which a folder is searched for."""


REFUSED_SIGNATURES = {
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml[^\0]*|<!--[^\0]*|<!DOCTYPE svg[^\0]*)?<svg[\s>]",
    "Canon CR3": rb"....ftypcrx ",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "MP4 or QuickTime": rb"....(ftyp|moov|mdat|wide)",
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS",
    "ICO or CUR": rb"\0\0[\x01\x02]\0",
    "ICNS": rb"icns",
    "JPEG XL": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "JPEG XR": rb"II\xbc\x01",
    "PSD": rb"8BPS",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
    "DDS": rb"DDS ",
    "QOI": rb"qoif",
    "PNM": rb"P[1-7]\s",
    "DICOM": rb".{128}DICM",
    "FITS": rb"SIMPLE  =",
    "SGI": rb"\x01\xda[\0\x01][\x01\x02]",
    "PCX": rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]",
    "GIMP": rb"gimp xcf",
    "XPM": rb"/\* XPM \*/",
    "MNG or JNG": rb"[\x8a\x8b](MNG|JNG)\r\n",
    "FLIF": rb"FLIF",
    "BPG": rb"BPG\xfb",
    "DjVu": rb"AT&TFORM",
    "WMF or EMF": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    "KTX": rb"\xabKTX ",
    "camera raw": rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|II\x1a\0\0\0HEAPCCDR",
    "WebM or Matroska": rb"\x1aE\xdf\xa3",
    "AVI": rb"RIFF....AVI ",
    "MPEG": rb"\0\0\x01[\xb3\xba]",
    "Ogg": rb"OggS",
    "ZIP": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
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
