"""Signatures of file formats, and the suffixes of their files."""

from __future__ import annotations

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
