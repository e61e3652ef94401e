"""Switches of Pillow that hold for the whole process."""

from __future__ import annotations

import ctypes

from PIL import Image, _imaging


def switch_pillow() -> None:
    """Leave limits and messages to us.

    Pillow's own size limit would warn or refuse on top of ours, which is checked before Pillow sees
    a file. And libtiff writes to stderr what Pillow then also says by an exception.
    """
    Image.MAX_IMAGE_PIXELS = None
    library = ctypes.CDLL(_imaging.__file__)
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        # Not there where Pillow was built without libtiff, or with one that hides its names.
        if hasattr(library, handler):
            getattr(library, handler)(None)
