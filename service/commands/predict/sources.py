"""The images to predict on: files, folders, patterns, the standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

STDIN = "-"

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Suffixes that a folder is searched for. A file that is named itself may have any."""


class SourceError(Exception):
    """An image cannot be found or read; the message says why."""


@dataclass(frozen=True)
class Source:
    """An image, or the reason why there is none.

    Attributes:
        name: as it is shown.
        place: path of its overlay below the output folder, without the suffix.
        content: path of the file, its bytes, or why there are none.
    """

    name: str
    place: PurePath
    content: Path | bytes | SourceError

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            SourceError: if there are none.
            OSError: if the file cannot be read.
        """
        if isinstance(self.content, SourceError):
            raise self.content
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def find_sources(names: Sequence[str], stdin: BinaryIO) -> list[Source]:
    """Find the images that a command names, in the order of the names.

    Args:
        names: files, folders (searched recursively, hidden files left out), patterns like
            ``photos/**/*.jpg``, or ``-``.
        stdin: read to its end for ``-``.
    """
    sources: list[Source] = []
    for name in names:
        path = Path(name)
        if name == STDIN:
            sources.append(Source("stdin", PurePath("stdin"), stdin.read()))
        elif path.is_dir():
            sources += _of_folder(name, path)
        elif glob.has_magic(name) and not path.exists():
            sources += _of_pattern(name)
        else:
            sources.append(_of_file(path))
    return sources


def _of_file(path: Path) -> Source:
    return Source(str(path), PurePath(path.name), path)


def _of_folder(name: str, folder: Path) -> list[Source]:
    found = [
        Source(str(path), path.relative_to(folder), path) for path in sorted(_images_in(folder))
    ]
    return found or [_none(name, f"The folder holds no {', '.join(sorted(IMAGE_SUFFIXES))}.")]


def _images_in(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and Path(file).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, file)


def _of_pattern(pattern: str) -> list[Source]:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 - any root
    found = [_of_file(path) for path in paths if path.is_file()]
    return found or [_none(pattern, "No file matches.")]


def _none(name: str, reason: str) -> Source:
    return Source(name, PurePath(), SourceError(reason))
