"""Read a file of class names."""

from __future__ import annotations

import stat
from pathlib import Path


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a UTF-8 text file, one a line, in the order of the class ids.

    Raises:
        ValueError: if it cannot be read, is not a file, or is not UTF-8.
    """
    try:
        # The end of a pipe may never come.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"The labels file {path} cannot be read: it is not a file.")
        return tuple(path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except OSError as error:
        raise ValueError(f"The labels file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"The labels file {path} cannot be read: it is not UTF-8 text.") from error
