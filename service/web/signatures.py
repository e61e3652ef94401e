"""What format some bytes are, told from the first of them."""

from __future__ import annotations

import re

LOOKED_AT_BYTES = 1024
"""Only SVG hides its name behind declarations and comments."""

SUPPORTED_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
}
"""The formats that are decoded, by Pillow's names for them."""

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
"""Formats that are known, but not decoded."""


def format_of(body: bytes, signatures: dict[str, bytes]) -> str | None:
    """Return the format whose signature the bytes bear, None if it is none of these."""
    start = body[:LOOKED_AT_BYTES]
    return next(
        (name for name, pattern in signatures.items() if re.match(pattern, start, re.DOTALL)), None
    )
