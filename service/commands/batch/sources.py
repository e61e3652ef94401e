"""Find the images that ``overlock batch`` is given: files, folders, patterns, lists, containers."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from service.commands.batch.buckets import (
    check_place,
    is_bucket,
    objects_below,
    objects_like,
    stat_object,
)
from service.commands.batch.containers import Container, container_of
from service.commands.batch.items import ImageItem, listing_of
from service.commands.console.exits import RefusedError
from service.commands.predict.sources import IMAGE_SUFFIXES, STDIN, LeftOut, images_in


def find_items(
    names: Sequence[str], stdin: BinaryIO, left_out: LeftOut = lambda _: False
) -> tuple[pa.Table, Counter[str]]:
    """Find the images that a command names.

    Args:
        names: files, folders (searched recursively, hidden files left out), patterns, each of them
            on this machine or ``s3://`` or ``gs://``; tars and Parquet files; ``-``.
        stdin: a name on each line, or names that NUL ends as ``find -print0`` does; for ``-``.
        left_out: tells of a path or an address whether it is no source, however it is named.

    Returns:
        The listing, and how many files of each kind the folders hold that are no images.

    Raises:
        RefusedError: if there is no image, or a container cannot be read.
    """
    for name in names:
        check_place(name)
    finder = _Finder(left_out)
    items = [
        item
        for name in names
        for item in finder.items_of(name, stdin)
        if not left_out(item.address)
    ]
    if all(item.is_missing for item in items):
        why = ": no file of that name can be found" if items else ""
        shown = ", ".join("the standard input" if name == STDIN else name for name in names)
        raise RefusedError(f"There is no image in {shown}{why}.")
    return listing_of(items), finder.skipped


class _Finder:
    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self.skipped: Counter[str] = Counter()

    def items_of(self, name: str, stdin: BinaryIO) -> Iterator[ImageItem]:
        if name == STDIN:
            content = stdin.read()
            lines = content.split(b"\0") if b"\0" in content else content.splitlines()
            for line in filter(None, lines):
                yield from self._of_list(os.fsdecode(line))
        elif is_bucket(name):
            yield from self._of_bucket(name)
        else:
            yield from self._of_local(name)

    def _of_list(self, name: str) -> Iterator[ImageItem]:
        """Yield a line's items: a list of a million objects is not looked up object by object."""
        if is_bucket(name) and not glob.has_magic(name) and not name.endswith("/"):
            yield from self._of_named(name, ImageItem(name, name))
        elif is_bucket(name):
            yield from self._of_bucket(name)
        else:
            yield from self._of_local(name)

    def _of_local(self, name: str) -> Iterator[ImageItem]:
        path = Path(name)
        # Of names that are too long, or below a folder that may not be searched, pathlib's raise.
        if os.path.isdir(name):  # noqa: PTH112
            yield from map(_of_file, images_in(path, self.skipped, self._left_out))
        elif glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110
            for found in glob.glob(name, recursive=True):  # noqa: PTH207 - any root
                if Path(found).is_file():
                    yield from self._of_named(str(Path(found)))
        else:
            yield from self._of_named(str(path))

    def _of_named(self, name: str, item: ImageItem | None = None) -> Iterator[ImageItem]:
        if self._left_out(name):
            return
        container = container_of(name)
        if container is not None:
            yield from _of_container(container)
        else:
            yield item or _of_file(Path(name))

    def _of_bucket(self, name: str) -> Iterator[ImageItem]:
        if glob.has_magic(name):
            found = objects_like(name)
        else:
            only = None if name.endswith("/") else stat_object(name)
            if only is None:
                below = objects_below(name)
                if not below and not name.endswith("/"):
                    yield ImageItem(name, name)  # as a file that is not there: its row says so
                for item in below:
                    if Path(item.address).suffix.lower() in IMAGE_SUFFIXES:
                        yield item
                return
            found = [only]
        for item in found:
            yield from self._of_named(item.address, item)


def _of_file(path: Path) -> ImageItem:
    address = os.path.abspath(path)  # noqa: PTH100 - a link stays the link that was named
    try:
        facts = path.stat()
    except OSError:
        # Its row says why; it is no reason to end a run over many others.
        return ImageItem(str(path), address)
    return ImageItem(str(path), address, size=facts.st_size, stamp=str(facts.st_mtime_ns))


def _of_container(container: Container) -> Iterator[ImageItem]:
    for item in container.items():
        # The paths in a Parquet file are those of files, whose sizes and times are told.
        if item.row is None and item.offset is None and not is_bucket(item.address):
            yield _of_file(Path(item.path))
        else:
            yield item
