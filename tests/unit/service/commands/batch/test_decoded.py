from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from service.api.schemas import ImageFacts
from service.commands.batch.decoded import DecodedChunk, inputs_of
from service.commands.predict.outcome import Failure
from service.images.preparation import PreparedImage
from service.link.messages import NetworkInput

SHAPES = [(2, 3), (64, 96), (1, 1), (300, 200)]
"""Of inputs that make the buffer grow."""

BAD = Failure("invalid-image", "It is damaged.")


def prepared(height: int, width: int, *, turned: bool = False) -> PreparedImage:
    chance = np.random.default_rng(height * width)
    pixels = chance.integers(0, 256, (height, width, 3), np.uint8)
    if turned:  # rows that do not follow each other in memory
        pixels = pixels.swapaxes(0, 1)
    size = (pixels.shape[0] + 1, pixels.shape[1] + 2)
    facts = ImageFacts(width=7 * width, height=5 * height, frames=3)
    return PreparedImage(NetworkInput(pixels, size, (5 * height, 7 * width)), facts, 0.0)


def test_inputs_and_failures_come_back_in_order() -> None:
    chunk = DecodedChunk(2)
    given: list[tuple[str, PreparedImage | Failure]] = [("bad", BAD)]
    for number, shape in enumerate(SHAPES):
        given.append((f"{number}", prepared(*shape, turned=number == 3)))
    given.append(("worse", BAD))
    for path, content in given:
        if isinstance(content, Failure):
            chunk.add_failure(path, content)
        else:
            chunk.add(path, content)
    found = list(inputs_of(chunk.table()))
    assert [path for path, _ in found] == ["bad", "0", "1", "2", "3", "worse"]
    for (_, got), (_, want) in zip(found, given, strict=True):
        if isinstance(want, Failure):
            assert got == want
            continue
        assert isinstance(got, PreparedImage)
        assert np.array_equal(got.network_input.pixels, want.network_input.pixels)
        assert got.network_input.size == want.network_input.size
        assert got.network_input.original_size == want.network_input.original_size
        assert got.facts == want.facts


def test_pixels_stay_where_they_are() -> None:
    chunk = DecodedChunk(2)
    for number, shape in enumerate(SHAPES[:2]):
        chunk.add(f"{number}", prepared(*shape))
    table = chunk.table()
    content = table.column("pixels").chunk(0).buffers()[2]
    for _, got in inputs_of(table):
        assert isinstance(got, PreparedImage)
        assert np.shares_memory(got.network_input.pixels, np.frombuffer(content, np.uint8))


def test_a_part_of_longer_columns_is_a_chunk() -> None:
    chunk = DecodedChunk(2)
    chunk.add_failure("bad", BAD)
    chunk.add("good", prepared(*SHAPES[0]))
    table = chunk.table()
    other = DecodedChunk(1)
    other.add("other", prepared(*SHAPES[1]))
    longer = pa.concat_tables([other.table(), table]).combine_chunks()
    (_, bad), (_, good) = inputs_of(longer.slice(1))
    assert bad == BAD
    assert isinstance(good, PreparedImage)
    assert np.array_equal(good.network_input.pixels, prepared(*SHAPES[0]).network_input.pixels)


def test_a_chunk_of_failures_has_no_pixels() -> None:
    chunk = DecodedChunk(1)
    chunk.add_failure("bad", BAD)
    assert list(inputs_of(chunk.table())) == [("bad", BAD)]


def test_a_chunk_that_was_cut_is_refused() -> None:
    chunk = DecodedChunk(2)
    for path in "ab":
        chunk.add(path, prepared(2, 2))
    with pytest.raises(AssertionError, match="a chunk was cut"):
        list(inputs_of(chunk.table().slice(0, 1)))
