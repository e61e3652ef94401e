"""The result of every container's reader, and limits on how far a reader walks."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIECES = 100_000
"""Maximum number of chunks, segments or blocks of one file; one more is an error."""

MAX_FRAMES_COUNTED = 1_000
"""Number of frames at which counting stops; a file with more is reported to have this many."""


@dataclass(frozen=True)
class FirstFrame:
    """The part of an image file that draws its first frame.

    Attributes:
        file: a file of the same format without metadata, which could make Pillow fail.
        width: from the file's header, not yet turned upright, pixels.
        height: from the file's header, not yet turned upright, pixels.
        frames: frames or pages of the original, at most ``MAX_FRAMES_COUNTED``.
        orientation: EXIF orientation, 1 to 8; ``file`` does not hold it any more.
    """

    file: bytes
    width: int
    height: int
    frames: int = 1
    orientation: int = 1
