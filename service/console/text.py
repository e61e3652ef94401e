"""Text for a terminal, or for whatever else reads it."""

from __future__ import annotations

import os
from typing import TextIO

BOLD, RESET = "\x1b[1m", "\x1b[0m"


def shown(text: str) -> str:
    """Return a text without what a terminal would obey: a file may have any name."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def heading(text: str, stream: TextIO) -> str:
    """Return a heading, bold on a terminal that may have it (https://no-color.org)."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and _capable()
    return f"{BOLD}{text}{RESET}" if wanted else text


def _capable() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"
