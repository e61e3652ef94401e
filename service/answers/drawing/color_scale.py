"""The scale of a class map: which colour a logit has, and the bar that shows it.

The table is magma, as OpenCV has it: its lightness rises evenly from black to nearly white, also to
eyes that lack a kind of cones, so that lighter always means more. Of the tables that do so its
smallest step is the largest to such eyes, and where the map is low it leaves a grey, dark image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from service.answers.drawing.tags import Tag, face_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.labels.tables import Color

TABLE = cv2.COLORMAP_MAGMA
"""OpenCV's number of the table."""

LEVELS = 256
"""Colours of the table."""

MIN_SPAN_LOGITS = 1.0
"""Smallest difference, in logits, that the whole table is spread over.

A map that is nearly flat keeps to the table's middle: its rounding does not become a picture.
"""

_BAR_SHARE = (6, 0.25)  # of the text's size: length, and margin above and below
_GREY = 128
"""What the bar's colours lie on: the middle of what they lie on in the picture."""


@dataclass(frozen=True)
class ColorScale:
    """The colours from a map's smallest logit to its largest one.

    There is no colour for zero: a logit counts beside the other classes', so its sign says nothing.

    Attributes:
        low: the smallest logit.
        high: the largest.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> ColorScale:
        """Return the scale of a map."""
        return cls(float(values.min()), float(values.max()))

    def levels(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the places of logits in the table, 0 to 255."""
        span = max(self.high - self.low, MIN_SPAN_LOGITS)
        start = (self.low + self.high - span) / 2
        return ((values - start) * ((LEVELS - 1) / span)).astype(np.float32)

    @staticmethod
    def colors(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the colours of whole levels, (H, W), in OpenCV's order, (H, W, 3)."""
        return cv2.applyColorMap(levels, TABLE).astype(np.uint8, copy=False)


def scale_face(
    scale: ColorScale, color: Color, text_size: int, opacity: float
) -> NDArray[np.uint8]:
    """Return the bar of colours between the smallest and the largest logit, RGB, (H, W, 3).

    Args:
        scale: of the map.
        color: of what lies around the bar.
        text_size: of the numbers, pixels.
        opacity: of the map on its image; the bar has it on a middle grey.
    """
    low, high = (
        face_of(Tag(logit_text(logit), color, text_size)) for logit in (scale.low, scale.high)
    )
    length, margin = (round(share * text_size) for share in _BAR_SHARE)
    first, last = scale.levels(np.array([scale.low, scale.high])).tolist()
    levels = np.linspace(first, last, length)
    colors = ColorScale.colors(np.rint(levels).astype(np.uint8)[None])[0, :, ::-1]
    bar = np.full((len(low), length, 3), color, np.uint8)
    bar[margin:-margin] = np.rint(opacity * colors + (1 - opacity) * _GREY)
    return np.concatenate((low, bar, high), axis=1)


def logit_text(logit: float) -> str:
    """Write a logit with up to two decimals."""
    return f"{round(logit, 2) + 0.0:g}"  # + 0.0: no -0
