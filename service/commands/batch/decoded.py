"""A chunk of decoded images, as it crosses from a decoder to a network: one table of Arrow's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.api.schemas import ImageFacts
from service.commands.predict.outcome import Failure
from service.images.preparation import PreparedImage
from service.link.messages import NetworkInput

NUMBERS = 10
"""Of an input: shape (3), size (2), original size (2); the image's width, height and frames."""

NO_NUMBERS = (0,) * NUMBERS

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("inputs", pa.int32()),
        ("failure", pa.list_(pa.string())),
        ("pixels", pa.large_binary()),
        ("numbers", pa.list_(pa.int32(), NUMBERS)),
    ]
)
"""A row an input, in order; ``inputs`` is the number of the chunk's."""


class DecodedChunk:
    """Collects the inputs of a chunk. Their pixels are copied at once into one buffer.

    So an image's own memory is free for the next one, and still in the processor's cache.

    Args:
        images: of the chunk.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._pixels = np.empty(0, np.uint8)
        self._ends = [0]
        self._paths: list[str] = []
        self._failures: list[list[str] | None] = []
        self._numbers: list[tuple[int, ...]] = []

    def add(self, path: str, prepared: PreparedImage) -> None:
        """Add an input of an image."""
        network_input, facts = prepared.network_input, prepared.facts
        pixels, start = network_input.pixels, self._ends[-1]
        end = start + pixels.nbytes
        if end > self._pixels.size:
            self._grow(max(end, 2 * self._pixels.size, self._images * pixels.nbytes))
        self._pixels[start:end].reshape(pixels.shape)[...] = pixels
        numbers = (*pixels.shape, *network_input.size, *network_input.original_size)
        self._append(path, None, end, (*numbers, facts.width, facts.height, facts.frames))

    def add_failure(self, path: str, failure: Failure) -> None:
        """Add an image without an input."""
        self._append(path, [failure.kind, failure.detail], self._ends[-1], NO_NUMBERS)

    def table(self) -> pa.Table:
        """Return all that was added; the pixels are not copied again."""
        rows = len(self._paths)
        offsets = pa.py_buffer(np.array(self._ends, np.int64))
        pixels = pa.py_buffer(self._pixels[: self._ends[-1]])
        numbers = pa.array(np.array(self._numbers, np.int32).ravel())
        return pa.table(
            [
                pa.array(self._paths, pa.string()),
                pa.array(np.full(rows, rows, np.int32)),
                pa.array(self._failures, SCHEMA.field("failure").type),
                pa.Array.from_buffers(pa.large_binary(), rows, [None, offsets, pixels]),
                pa.FixedSizeListArray.from_arrays(numbers, NUMBERS),
            ],
            schema=SCHEMA,
        )

    def _append(
        self, path: str, failure: list[str] | None, end: int, numbers: tuple[int, ...]
    ) -> None:
        self._paths.append(path)
        self._failures.append(failure)
        self._ends.append(end)
        self._numbers.append(numbers)

    def _grow(self, size: int) -> None:
        pixels = np.empty(size, np.uint8)
        used = self._ends[-1]
        pixels[:used] = self._pixels[:used]
        self._pixels = pixels


def inputs_of(table: pa.Table) -> Iterator[tuple[str, PreparedImage | Failure]]:
    """Yield the path and the input of each row, or the reason why there is none.

    Args:
        table: of a ``DecodedChunk``, whole, so that its batches are the same in every run. The
            pixels stay in it.
    """
    columns = table.drop_columns(["pixels", "numbers"]).to_pydict()
    rows = table.num_rows
    assert all(inputs == rows for inputs in columns["inputs"]), "a chunk was cut"
    numbers = table.column("numbers").combine_chunks().flatten().to_numpy().reshape(rows, NUMBERS)
    for path, failure, row, pixels in zip(
        columns["path"], columns["failure"], numbers.tolist(), _bytes_of(table), strict=True
    ):
        if failure is not None:
            yield path, Failure(*failure)
            continue
        shape, size, original_size, (width, height, frames) = row[:3], row[3:5], row[5:7], row[7:]
        network_input = NetworkInput(
            pixels.reshape(shape),
            (size[0], size[1]),
            (original_size[0], original_size[1]),
        )
        facts = ImageFacts(width=width, height=height, frames=frames)
        yield path, PreparedImage(network_input, facts, decode_seconds=0.0)


def _bytes_of(table: pa.Table) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of each row where they are: Arrow's own scalars are copies."""
    for chunk in table.column("pixels").chunks:
        _, offsets, content = chunk.buffers()
        # All buffers may be those of a longer array.
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1]
        everything = np.frombuffer(content, np.uint8)
        yield from (everything[start:end] for start, end in pairwise(bounds.tolist()))
