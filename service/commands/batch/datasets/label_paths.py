"""Paths of YOLO's files of labels: that of the image, with another suffix, below a folder.

A reader finds them by the images' paths alone, so that two images may not differ in their suffix
only. The tree is that of the images, from the folder that all of them share.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from pathlib import PurePosixPath

from service.commands.console.exits import RefusedError
from service.commands.predict.sources import IMAGE_SUFFIXES


class LabelPaths:
    """Names the files of labels.

    Args:
        paths: of all images of all shards, as their rows have them.

    Raises:
        RefusedError: if two images would share a file, or the list of images cannot name one.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        paths = list(paths)
        self._root = _shared_folder(paths)
        found: dict[str, str] = {}
        for path in paths:
            if len(path.splitlines()) > 1:
                raise RefusedError(
                    f"--format yolo: {path!r} has a line break, and images.txt has a path a line. "
                    "Rename it, or take another format."
                )
            other = found.setdefault(self.of(path), path)
            if other is not path:
                raise RefusedError(
                    f"--format yolo: {other} and {path} would share labels/{self.of(path)}: YOLO "
                    "finds an image's labels by its path without the suffix. Rename one, or take "
                    "another format."
                )

    def of(self, path: str) -> str:
        """Return the path of an image's file of labels, below ``labels``."""
        name = PurePosixPath(self.image(path))
        # Others' last part is no suffix: FILE.parquet#12.
        stem = name.with_suffix("") if name.suffix.lower() in IMAGE_SUFFIXES else name
        return f"{stem}.txt"

    def image(self, path: str) -> str:
        """Return an image's own path below the folder that all of them share."""
        return posixpath.relpath(_absolute(path), self._root)


def _absolute(path: str) -> str:
    """Return a path of which no part is ``..``; of an address, one below its scheme."""
    scheme, mark, rest = path.partition("://")
    return posixpath.normpath(f"/{scheme}/{rest}") if mark else os.path.abspath(path)  # noqa: PTH100


def _shared_folder(paths: Iterable[str]) -> str:
    shared: str | None = None
    for path in paths:
        folder = posixpath.dirname(_absolute(path))
        if shared is None:
            shared = folder
        elif folder != shared:
            shared = posixpath.commonpath((shared, folder))
    return shared or "/"
