"""Image files of drawn scenes."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def png(pixels: Any) -> bytes:
    """Encode (H, W, 3) uint8 pixels without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
