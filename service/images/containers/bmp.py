"""BMP: the header is read, and nothing is removed."""

from __future__ import annotations

import struct

from service.api.errors import UnsupportedMediaError
from service.images.containers.first_frame import FirstFrame

OS2_HEADER_BYTES = 12
NOT_COMPRESSED, BIT_FIELDS = 0, 3


def read_bmp(body: bytes) -> FirstFrame:
    """Read the size.

    Raises:
        UnsupportedMediaError: the pixels are run-length encoded (Pillow decodes that byte by byte,
            in Python) or a JPEG or PNG file.
        struct.error: the file is truncated.
    """
    (header_bytes,) = struct.unpack_from("<I", body, 14)
    if header_bytes == OS2_HEADER_BYTES:
        return FirstFrame(body, *struct.unpack_from("<HH", body, 18))
    width, height, _, _, compression = struct.unpack_from("<IiHHI", body, 18)
    if compression not in (NOT_COMPRESSED, BIT_FIELDS):
        raise UnsupportedMediaError("Compressed BMP files are not supported.")
    return FirstFrame(body, width, abs(height))
