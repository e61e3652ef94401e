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
from service.commands.predict.sources import IMAGE_SUFFIXES, STDIN, images_in


def find_items(names: Sequence[str], stdin: BinaryIO) -> tuple[pa.Table, Counter[str]]:
    """Find the images that a command names.

    Args:
        names: files, folders (searched recursively, hidden files left out), patterns, each of them
            on this machine or ``s3://`` or ``gs://``; tars and Parquet files; ``-``.
        stdin: a name on each line, or names that NUL ends as ``find -print0`` does; for ``-``.

    Returns:
        The listing, and how many files of each kind the folders hold that are no images.

    Raises:
        RefusedError: if there is no image, or a container cannot be read.
    """
    for name in names:
        check_place(name)
    skipped: Counter[str] = Counter()
    items = [item for name in names for item in _items_of(name, stdin, skipped)]
    if all(item.is_missing for item in items):
        why = ": no file of that name can be found" if items else ""
        shown = ", ".join("the standard input" if name == STDIN else name for name in names)
        raise RefusedError(f"There is no image in {shown}{why}.")
    return listing_of(items), skipped


def _items_of(name: str, stdin: BinaryIO, skipped: Counter[str]) -> Iterator[ImageItem]:
    if name == STDIN:
        content = stdin.read()
        lines = content.split(b"\0") if b"\0" in content else content.splitlines()
        for line in filter(None, lines):
            yield from _of_list(os.fsdecode(line), skipped)
    elif is_bucket(name):
        yield from _of_bucket(name)
    else:
        yield from _of_local(name, skipped)


def _of_list(name: str, skipped: Counter[str]) -> Iterator[ImageItem]:
    """Yield a line's items: a list of a million objects is not looked up object by object."""
    if is_bucket(name) and not glob.has_magic(name) and not name.endswith("/"):
        container = container_of(name)
        yield from _of_container(container) if container else [ImageItem(name, name)]
    elif is_bucket(name):
        yield from _of_bucket(name)
    else:
        yield from _of_local(name, skipped)


def _of_local(name: str, skipped: Counter[str]) -> Iterator[ImageItem]:
    path = Path(name)
    # Of names that are too long, or below a folder that may not be searched, pathlib's raise.
    if os.path.isdir(name):  # noqa: PTH112
        yield from (_of_file(found) for found in images_in(path, skipped))
    elif glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110
        for found in glob.glob(name, recursive=True):  # noqa: PTH207 - any root
            if Path(found).is_file():
                yield from _of_named(Path(found))
    else:
        yield from _of_named(path)


def _of_named(path: Path) -> Iterator[ImageItem]:
    container = container_of(str(path))
    if container is None:
        yield _of_file(path)
    else:
        yield from _of_container(container)


def _of_file(path: Path) -> ImageItem:
    address = os.path.abspath(path)  # noqa: PTH100 - a link stays the link that was named
    try:
        facts = path.stat()
    except OSError:
        # Its row says why; it is no reason to end a run over many others.
        return ImageItem(str(path), address)
    return ImageItem(str(path), address, size=facts.st_size, stamp=str(facts.st_mtime_ns))


def _of_bucket(name: str) -> Iterator[ImageItem]:
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
        container = container_of(item.address)
        yield from _of_container(container) if container else [item]


def _of_container(container: Container) -> Iterator[ImageItem]:
    for item in container.items():
        # The paths in a Parquet file are those of files, whose sizes and times are told.
        if item.row is None and item.offset is None and not is_bucket(item.address):
            yield _of_file(Path(item.path))
        else:
            yield item
