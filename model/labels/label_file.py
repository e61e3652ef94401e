"""Read a file of class names."""

from __future__ import annotations

from pathlib import Path


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a UTF-8 text file, one a line, in the order of the class ids.

    Raises:
        ValueError: if it cannot be read, or is not UTF-8.
    """
    try:
        return tuple(path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except OSError as error:
        raise ValueError(f"The labels file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"The labels file {path} cannot be read: it is not UTF-8 text.") from error
