"""The parts of a run, and the chunks that cross to the decoders; the same in every run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.commands.console.exits import RefusedError

MAX_SHARDS = 100_000
"""Shards have numbers of five digits."""

MAX_PART_SIZE = 10_000_000


@dataclass(frozen=True)
class Shard:
    """One run of several that share an output folder.

    Attributes:
        index: from 0.
        count: of the shards; None for a run that has the folder to itself.
    """

    index: int = 0
    count: int | None = None

    @property
    def infix(self) -> str:
        """What the names of its files have between their first word and the part's number."""
        return "" if self.count is None else f"-{self.index:05d}"

    def images_of(self, total: int) -> range:
        """Return the numbers of its images: neighbours, so that a tar has few readers."""
        count = self.count or 1
        return range(self.index * total // count, (self.index + 1) * total // count)


@dataclass(frozen=True)
class Part:
    """One output file: images that follow each other.

    Attributes:
        name: of its file.
        start: number of its first image in the listing.
        stop: number of the image after its last one.
    """

    name: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of its images."""
        return self.stop - self.start

    def chunks(self, images: int) -> list[range]:
        """Cut it into runs of images that are decoded and batched together."""
        starts = range(self.start, self.stop, images)
        return [range(start, min(start + images, self.stop)) for start in starts]


def shard_of(text: str | None) -> Shard:
    """Read ``I/N``.

    Raises:
        RefusedError: for anything else.
    """
    if text is None:
        return Shard()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if found is None or not int(found[1]) < int(found[2]) <= MAX_SHARDS:
        raise RefusedError(
            f"--shard is {text}; it has to be I/N, with I from 0 to N-1 and N up to {MAX_SHARDS}."
        )
    return Shard(int(found[1]), int(found[2]))


def checked_part_size(size: int) -> int:
    """Return the images of a part.

    Raises:
        RefusedError: if it is out of range.
    """
    if not 1 <= size <= MAX_PART_SIZE:
        raise RefusedError(f"--part-size is {size}; it has to be from 1 to {MAX_PART_SIZE}.")
    return size


def parts_of(total: int, part_size: int, shard: Shard) -> list[Part]:
    """Return a shard's parts of a listing."""
    images = shard.images_of(total)
    return [
        Part(f"part{shard.infix}-{number:05d}.parquet", start, min(start + part_size, images.stop))
        for number, start in enumerate(range(images.start, images.stop, part_size))
    ]


def windows_of(parts: Sequence[Part], images: int) -> Iterator[list[Part]]:
    """Cut the parts that are missing into runs of a bounded number of images."""
    window: list[Part] = []
    for part in parts:
        if window and sum(each.size for each in window) + part.size > images:
            yield window
            window = []
        window.append(part)
    yield window


def manifest_name(shard: Shard) -> str:
    """Return the name of the file that is written last."""
    return f"manifest{shard.infix}.json"


def plan_name(shard: Shard) -> str:
    """Return the name of the listing that is kept while a run is unfinished."""
    return f".plan{shard.infix}.parquet"
