"""Run lengths of BMP files: RLE8 and RLE4."""

from __future__ import annotations

from service.api.errors import InvalidImageError

MAX_RUNS = 1_000_000
"""Maximum number of runs of a file; decoding them takes about a second."""

END_OF_LINE, END_OF_BITMAP, DELTA = 0, 1, 2


def run_length_indices(
    data: memoryview, width: int, height: int, depth: int
) -> tuple[bytearray, bytearray]:
    """Decode run lengths.

    A line may end before its last pixel, the bitmap before its last line, and pixels may be
    stepped over: nobody draws these. A run is cut at the line's end.

    Args:
        data: the runs.
        width: pixels.
        height: rows.
        depth: 8 or 4 bits a pixel.

    Returns:
        The palette index of each pixel, and 255 for each that was drawn, 0 for the others; line by
        line in the file's order.

    Raises:
        InvalidImageError: the data end before the bitmap does, or have too many runs.
    """
    indices, drawn = bytearray(width * height), bytearray(width * height)
    column = row = position = 0
    for _ in range(MAX_RUNS):
        if row >= height or (row == height - 1 and column >= width):
            break
        if position + 2 > len(data):
            raise InvalidImageError(
                f"The BMP file is truncated: its runs end in row {row} of {height}."
            )
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            run = bytes([value]) * count if depth == 8 else _nibbles(bytes([value]), count)
        elif value == END_OF_LINE:
            column, row = 0, row + 1
            continue
        elif value == END_OF_BITMAP:
            break
        elif value == DELTA:
            if position + 2 > len(data):
                continue
            column, row = column + data[position], row + data[position + 1]
            position += 2
            continue
        else:
            size = value if depth == 8 else (value + 1) // 2
            run = bytes(data[position : position + size])
            if len(run) < size:
                position = len(data)
                continue
            run = run if depth == 8 else _nibbles(run, value)
            position += size + size % 2
        run = run[: max(width - column, 0)]
        start = row * width + column
        indices[start : start + len(run)] = run
        drawn[start : start + len(run)] = b"\xff" * len(run)
        column += len(run)
    else:
        raise InvalidImageError(f"The BMP file has more than {MAX_RUNS} runs.")
    return indices, drawn


def _nibbles(values: bytes, count: int) -> bytes:
    """Return the halves of bytes, the high one first, from the start again if they are too few."""
    halves = values.hex().encode().translate(_HEX_DIGITS)
    return (halves * (count // len(halves) + 1))[:count]


_HEX_DIGITS = bytes(
    int(chr(code), 16) if chr(code) in "0123456789abcdef" else 0 for code in range(256)
)
