"""The images to predict on: files, folders, patterns, the standard input."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from service.commands.console.table import escaped
from service.images.signatures import SUFFIXES

STDIN = "-"

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""Suffixes that a folder is searched for. A file that is named itself may have any."""

HIDDEN, LINKED, BARE = "hidden", "linked folders", "without a suffix"
UNREADABLE = "folders that cannot be read"

MAX_KINDS = 8
"""Kinds of skipped files that are named; the others are counted together."""


class SourceError(Exception):
    """An image cannot be found or read; the message says why."""


@dataclass(frozen=True)
class Source:
    """An image, or the reason why there is none.

    Attributes:
        name: as it is shown.
        place: path of what is saved of it below the output folder, without the suffix.
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


LeftOut = Callable[[str], bool]


def find_sources(names: Sequence[str], stdin: BinaryIO) -> tuple[list[Source], Counter[str]]:
    """Find the images that a command names, in the order of the names.

    Args:
        names: files, folders (searched recursively, hidden files left out), patterns like
            ``photos/**/*.jpg``, or ``-``.
        stdin: read to its end for ``-``.

    Returns:
        The images, and how many files of each kind the folders hold that are none.
    """
    sources: list[Source] = []
    skipped: Counter[str] = Counter()
    for name in names:
        path = Path(name)
        if name == STDIN:
            sources.append(Source("stdin", PurePath("stdin"), stdin.read()))
        elif path.is_dir():
            sources += _of_folder(name, path, skipped)
        elif glob.has_magic(name) and not path.exists():
            sources += _of_pattern(name)
        else:
            sources.append(_of_file(path))
    return sources, skipped


def skipped_note(skipped: Counter[str]) -> str | None:
    """Return a sentence about what the folders hold beside images, None if that is nothing."""
    if not skipped:
        return None
    named = skipped.most_common(MAX_KINDS)
    others = skipped.total() - sum(count for _, count in named)
    kinds = [f"{count} {kind}" for kind, count in named] + [f"{others} others"] * (others > 0)
    return f"Skipped in the folders: {', '.join(kinds)}. A file that is named itself is tried."


def _of_file(path: Path) -> Source:
    return Source(str(path), PurePath(path.name), path)


def _of_folder(name: str, folder: Path, skipped: Counter[str]) -> list[Source]:
    paths = sorted(images_in(folder, skipped))
    found = [Source(str(path), path.relative_to(folder), path) for path in paths]
    return found or [_none(name, f"The folder holds no {', '.join(sorted(IMAGE_SUFFIXES))}.")]


def images_in(
    folder: Path, skipped: Counter[str], left_out: LeftOut = lambda _: False
) -> Iterator[Path]:
    """Yield the files below a folder with a suffix of an image; count the others by kind.

    Args:
        folder: searched recursively.
        skipped: gets the counts.
        left_out: tells of a folder whether nothing in it is looked at or counted.
    """

    def unreadable(_: OSError) -> None:
        skipped[UNREADABLE] += 1

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        skipped.update(HIDDEN for name in folders if name.startswith("."))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not left_out(str(Path(parent, name)))
        ]
        skipped.update(LINKED for name in folders if Path(parent, name).is_symlink())
        for file in files:
            suffix = Path(file).suffix.lower()
            if file.startswith("."):
                skipped[HIDDEN] += 1
            elif suffix in IMAGE_SUFFIXES:
                yield Path(parent, file)
            else:
                skipped[escaped(suffix) or BARE] += 1


def _of_pattern(pattern: str) -> list[Source]:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 - any root
    found = [_of_file(path) for path in paths if path.is_file()]
    return found or [_none(pattern, "No file matches.")]


def _none(name: str, reason: str) -> Source:
    return Source(name, PurePath(), SourceError(reason))
