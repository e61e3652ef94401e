"""Tables on the standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

GAP = "  "


class Table:
    """Writes rows as they come, under a heading; so the columns have fixed widths.

    Args:
        columns: each one's title and width; a width below zero aligns to the right.
    """

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._widths = [width for _, width in columns]
        self._titles = [title for title, _ in columns]
        self._headed = False

    def write(self, cells: Sequence[str]) -> None:
        """Write a row to the standard output, the heading before the first."""
        if not self._headed:
            sys.stdout.write(heading(self._line(self._titles), sys.stdout) + "\n")
            self._headed = True
        sys.stdout.write(self._line([escaped(cell) for cell in cells]) + "\n")

    def _line(self, cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(-width) if width < 0 else cell.ljust(width)
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        return GAP.join(padded).rstrip()


BOLD, RESET = "\x1b[1m", "\x1b[0m"


def escaped(text: str) -> str:
    """Escape a text's control characters: a file may have any name."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def heading(text: str, stream: TextIO) -> str:
    """Return a heading, bold on a terminal unless NO_COLOR is set (https://no-color.org)."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and _capable()
    return f"{BOLD}{text}{RESET}" if wanted else text


def _capable() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"
