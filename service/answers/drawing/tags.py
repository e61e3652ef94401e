"""Tags: a class's name on a rounded rectangle of its colour, in legible ink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.labels.tables import Color

if TYPE_CHECKING:
    from numpy.typing import NDArray

DARK_INK: Color = (0, 0, 0)
LIGHT_INK: Color = (255, 255, 255)

MIN_TEXT_PIXELS = 10
"""Minimum size of letters; smaller ones are illegible."""

MAX_TEXT_CHARACTERS = 32
"""Maximum length of a name, in characters; a longer one is cut."""

_TEXT_SHARE = 0.03  # of the geometric mean of the image's sides
_MAX_TEXT_SHARE = 0.25  # of the short side
_PADDING_SHARE = (0.4, 0.2)  # of the text's size, left and right, above and below
_CORNER_SHARE = 0.3  # of the text's size
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Rectangle:
    """A rectangle of whole pixels, right and bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: Rectangle) -> bool:
        """Return whether both have a pixel in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def moved_within(self, height: int, width: int) -> Rectangle:
        """Return it moved into an image by as little as possible; one too large sticks out."""
        right = max(0, -self.left) + min(0, width - self.right)
        down = max(0, -self.top) + min(0, height - self.bottom)
        return Rectangle(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def is_free(self, height: int, width: int, taken: Iterable[Rectangle]) -> bool:
        """Return whether it lies within an image and overlaps no taken rectangle."""
        if min(self.left, self.top) < 0 or self.right > width or self.bottom > height:
            return False
        return not any(self.overlaps(other) for other in taken)


@dataclass(frozen=True)
class Tag:
    """A text with its size and the colour below it.

    Attributes:
        text: one line.
        color: of the rectangle.
        text_pixels: size of the letters.
    """

    text: str
    color: Color
    text_pixels: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawn tag, pixels."""
        across, down = (round(share * self.text_pixels) for share in _PADDING_SHARE)
        font = _font(self.text_pixels)
        ascent, descent = font.getmetrics()
        return round(font.getlength(self.text)) + 2 * across, ascent + descent + 2 * down


def text_pixels(height: int, width: int) -> int:
    """Return a size of letters in proportion to an image."""
    wanted = min(_TEXT_SHARE * sqrt(height * width), _MAX_TEXT_SHARE * min(height, width))
    return max(MIN_TEXT_PIXELS, round(wanted))


def shortened(text: str) -> str:
    """Write a text on one line, cut if it is too long for a tag."""
    line = " ".join(text.split())
    if len(line) <= MAX_TEXT_CHARACTERS:
        return line
    return line[: MAX_TEXT_CHARACTERS - 1].rstrip() + "…"


def ink_on(color: Color) -> Color:
    """Return the ink, dark or light, that contrasts more with a colour."""
    return max(DARK_INK, LIGHT_INK, key=lambda ink: contrast(ink, color))


def contrast(one: Color, other: Color) -> float:
    """Return the contrast ratio of two colours, 1 to 21; text is legible from 4.5 on.

    Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    darker, brighter = sorted((_luminance(one), _luminance(other)))
    return (brighter + 0.05) / (darker + 0.05)


def draw_tag(canvas: NDArray[np.uint8], tag: Tag, left: int, top: int) -> None:
    """Draw a tag on the canvas (see ``service.answers.drawing.canvas``), within its borders."""
    draw_face(canvas, face_of(tag), tag.text_pixels, left, top)


def face_of(tag: Tag) -> NDArray[np.uint8]:
    """Return a tag's pixels before its corners are rounded, RGB, (H, W, 3)."""
    face = Image.new("RGB", tag.size, tag.color)
    across, down = (round(share * tag.text_pixels) for share in _PADDING_SHARE)
    ImageDraw.Draw(face).text(
        (across, down), tag.text, fill=ink_on(tag.color), font=_font(tag.text_pixels)
    )
    return np.asarray(face)


def draw_face(
    canvas: NDArray[np.uint8], face: NDArray[np.uint8], text_size: int, left: int, top: int
) -> None:
    """Draw pixels with rounded corners on the canvas, within its borders.

    Args:
        canvas: changed in place (see ``service.answers.drawing.canvas``).
        face: RGB, (H, W, 3).
        text_size: of the letters on it, pixels; the corners grow with them.
        left: column of the face's left side.
        top: row of its upper side.
    """
    height, width = face.shape[:2]
    opacity = _rounded(width, height, text_size)[..., None]
    pixels = face[..., ::-1].astype(np.uint16)
    below = canvas[top : top + height, left : left + width]
    below[:] = (pixels * opacity + below * (255 - opacity) + 127) // 255


def _luminance(color: Color) -> float:
    encoded = [channel / 255 for channel in color]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in encoded
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _rounded(width: int, height: int, text_size: int) -> NDArray[np.uint16]:
    """Return the opacity of a rectangle with rounded corners, 0 to 255, (height, width)."""
    size = (_SUPERSAMPLING * width, _SUPERSAMPLING * height)
    shape = Image.new("L", size)
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1),
        radius=_CORNER_SHARE * text_size * _SUPERSAMPLING,
        fill=255,
    )
    return np.asarray(shape.reduce(_SUPERSAMPLING), np.uint16)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return font
