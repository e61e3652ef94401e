"""Pillow as a decoder: files that a container's reader has reduced, and every pixel mode to RGB."""

from __future__ import annotations

import ctypes
from io import BytesIO

import numpy as np

# Imported for Pillow's registry: otherwise the first WebP or TIFF file loads all its plugins.
from PIL import AvifImagePlugin, Image, TiffImagePlugin, WebPImagePlugin, _imaging  # noqa: F401

from service.api.errors import InvalidImageError

TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def switch_pillow() -> None:
    """Switch off Pillow's size limit, libtiff's messages and the decoders' own threads.

    Our size limit is checked before Pillow opens a file. libtiff writes to stderr what Pillow then
    also raises.
    """
    Image.MAX_IMAGE_PIXELS = None
    # A worker's parallelism is its requests.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    library = ctypes.CDLL(_imaging.__file__)
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        # Missing where Pillow was built without libtiff, or with hidden symbols.
        if hasattr(library, handler):
            getattr(library, handler)(None)


switch_pillow()


def avif_unsupported_reason() -> str | None:
    """Return why AVIF files are not decoded here, None if they are."""
    if AvifImagePlugin.SUPPORTED:
        return None
    return "AVIF is not supported by this build of Pillow."


def open_image(
    file: bytes, format_name: str, size: tuple[int, int], short_side_needed: int | None = None
) -> Image.Image:
    """Decode the first frame of a file in the mode that the file has.

    Args:
        file: reduced to what draws.
        format_name: the only format that is tried.
        size: width and height that the container's reader found.
        short_side_needed: as ``FirstFrame.draw`` takes it; reduces a JPEG.

    Raises:
        InvalidImageError: the file has another size.
        OSError, ValueError: what Pillow cannot decode.
    """
    try:
        with Image.open(BytesIO(file), formats=[format_name]) as image:
            if image.size != size:
                raise InvalidImageError(f"The {format_name} file contradicts itself on its size.")
            if short_side_needed is not None:
                image.draft(None, (2 * short_side_needed, 2 * short_side_needed))
            image.load()
            return image
    except (RuntimeError, SyntaxError) as error:  # libavif's
        raise OSError(str(error)) from error


def check_palette(image: Image.Image, entries: int, format_name: str) -> None:
    """Check that every pixel has a colour.

    Args:
        image: mode P, or L where Pillow found that its palette is grey; its levels are indices.
        entries: number of colours in the file's palette.
        format_name: told to the caller.

    Raises:
        InvalidImageError: a pixel that is not transparent has an index beyond the palette.
    """
    highest = image.getextrema()[1]
    if not isinstance(highest, float | int) or highest < entries:
        return
    transparent = image.info.get("transparency")
    used = [index for index, count in enumerate(image.histogram()) if count]
    if any(index >= entries and index != transparent for index in used):
        raise InvalidImageError(
            f"The {format_name} file is damaged: a pixel has colour {used[-1]}, and its palette "
            f"has {entries}, from 0."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: 16 bits scaled to 8, transparency composited on white.

    Colour profiles are not applied, as in the networks' training.

    Args:
        image: of any mode in which Pillow opens the supported formats; ``I;16`` has the full
            range from 0 to 65,535.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        # Pillow cannot convert premultiplied grey directly.
        return _on_white((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Take the high byte, as Pillow itself does with 16-bit colour; its own conversion clips."""
    levels = np.asarray(image)
    grey = (levels >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas
