"""The result of every container's reader, and limits on how far a reader walks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

MAX_PIECES = 100_000
"""Maximum number of chunks, segments or blocks of one file; one more is an error."""

MAX_FRAMES_COUNTED = 1_000
"""Number of frames at which counting stops; a file with more is reported to have this many."""


@dataclass(frozen=True)
class FirstFrame:
    """The first frame of an image file, not decoded yet.

    Attributes:
        width: from the file's header, not yet turned upright, pixels.
        height: from the file's header, not yet turned upright, pixels.
        draw: decodes the frame to a new RGB image of this size, not yet turned upright; to be
            called after the size was checked. Its argument is the short side that is needed,
            None for all pixels; a JPEG may be reduced while twice that remains. Raises
            ``InvalidImageError``, or one of ``decode.DECODING_ERRORS``, unless the file delivers
            every pixel.
        frames: frames or pages of the original, at most ``MAX_FRAMES_COUNTED``.
        orientation: EXIF orientation, 1 to 8, that ``draw`` leaves to the caller.
        decoded: width and height that are decoded, if more than what is shown; the limits apply to
            them too.
    """

    width: int
    height: int
    draw: Callable[[int | None], Image.Image]
    frames: int = 1
    orientation: int = 1
    decoded: tuple[int, int] | None = None
