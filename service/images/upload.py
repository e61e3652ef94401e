"""The image in a request's body, and the signatures of file formats."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser

from service.api.errors import MalformedRequestError, UnsupportedMediaError

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


MAX_PARTS = 8
"""Maximum number of parts of a multipart body; only ``image`` is read."""


IMAGE_FIELD = "image"


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
    """Find the image in a body: the body itself, a multipart field, or base64 in JSON.

    Args:
        body: complete.
        content_type: the request's header.

    Raises:
        MalformedRequestError: if the body does not match its content type, or has no image.
        UnsupportedMediaError: if the content type cannot hold an image.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return _from_multipart(body, content_type or "")
    if media_type == "application/json":
        return _from_json(body)
    if media_type == "application/x-www-form-urlencoded":
        # curl's default without -H.
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
    except ValueError as error:  # not base64, or not ASCII
        raise MalformedRequestError(f"The field image is not base64: {error}.") from error


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
            # The body is already in memory: no part is written to disk.
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


def format_of(body: bytes, signatures: dict[str, bytes]) -> str | None:
    """Return the format whose signature the bytes have; None if there is none."""
    start = body[:SIGNATURE_BYTES]
    return next(
        (name for name, pattern in signatures.items() if re.match(pattern, start, re.DOTALL)), None
    )
