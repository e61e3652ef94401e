"""HEVC pictures: libheif decodes them, and libde265 is asked whether they were whole.

Both are in the package pi-heif, of the extra ``heif`` (docs/adr/0026-heic.md). libheif keeps
libde265's warnings to itself and leaves pixels as they were where a slice ends early.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from PIL import Image

from model.remote.extras import install_extra
from service.api.errors import InvalidImageError

try:
    import _pi_heif
    import pi_heif
except ImportError:
    pi_heif = None

HARMLESS_WARNINGS = frozenset({1000, 1022, 1025})
"""libde265's numbers for its own threads, and for metadata that it cannot read."""

MAX_STEPS = 100_000
"""Maximum number of steps in which a picture is decoded."""

_DECODER = ctypes.c_void_p


def heic_unsupported_reason() -> str | None:
    """Return why HEIC files are not decoded here, None if they are."""
    if pi_heif is None:
        return f"HEIC is not supported by this installation; to add it, {install_extra('heif')}."
    if _library is None:
        return "HEIC is not supported by this build of pi-heif: it hides libde265's functions."
    return None


def decode_heic(file: bytes, size: tuple[int, int]) -> Image.Image:
    """Decode a HEIC file that holds one picture.

    Args:
        file: with nothing else in it.
        size: width and height that it states.

    Raises:
        InvalidImageError: the file has another size.
        OSError, ValueError: what libheif cannot decode.
    """
    try:
        decoded = pi_heif.open_heif(file)
        if decoded.size != size:
            raise InvalidImageError("The HEIC file contradicts itself on its size.")
        image: Image.Image = decoded.to_pillow()
    except (EOFError, RuntimeError, SyntaxError) as error:
        raise OSError(str(error)) from error
    return image


def check_hevc(units: Iterable[bytes]) -> None:
    """Decode a picture, and drop it, to learn whether it is whole.

    Args:
        units: parameter sets and slices, without lengths or start codes.

    Raises:
        InvalidImageError: a slice is cut or damaged.
    """
    assert _library is not None, "heic_unsupported_reason() was asked"
    decoder = _DECODER(_library.de265_new_decoder())
    try:
        for unit in units:
            _library.de265_push_NAL(decoder, unit, len(unit), ctypes.c_int64(0), None)
        error = _library.de265_flush_data(decoder)
        more = ctypes.c_int(1)
        for _ in range(MAX_STEPS):
            if error or not more.value:
                break
            more.value = 0
            error = _library.de265_decode(decoder, ctypes.byref(more))
            while _library.de265_get_next_picture(decoder):
                pass
        while not error and (warning := _library.de265_get_warning(decoder)):
            error = 0 if warning in HARMLESS_WARNINGS else warning
        if error:
            text = _library.de265_get_error_text(error).decode("ascii", "replace")
            raise InvalidImageError(f"The HEIC file is damaged or truncated: {text}.")
    finally:
        _library.de265_free_decoder(decoder)


def _load() -> ctypes.CDLL | None:
    """Return libde265's functions; switch off pi-heif's own threads."""
    if pi_heif is None:
        return None
    # A worker's parallelism is its requests.
    pi_heif.options.DECODE_THREADS = 1
    library = ctypes.CDLL(_pi_heif.__file__)
    if not hasattr(library, "de265_new_decoder"):
        return None
    library.de265_new_decoder.restype = _DECODER
    library.de265_get_next_picture.restype = ctypes.c_void_p
    library.de265_get_error_text.restype = ctypes.c_char_p
    return library


_library = _load()
