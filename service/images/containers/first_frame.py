"""What every reader of a container returns, and how far a reader walks."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIECES = 100_000
"""Chunks, segments or blocks of one file that are walked over; the next one is an error."""

MAX_FRAMES_COUNTED = 1_000
"""Frames that are counted; a file with more is said to have so many."""


@dataclass(frozen=True)
class FirstFrame:
    """The part of an image file that draws its first frame.

    Attributes:
        file: a file of the same format without metadata, so that Pillow cannot trip over it.
        width: as the file's header says, not yet turned upright, pixels.
        height: the same.
        frames: frames or pages of the original, at most ``MAX_FRAMES_COUNTED``.
        orientation: EXIF orientation, 1 to 8; ``file`` does not hold it any more.
    """

    file: bytes
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
