from __future__ import annotations

import pytest

from service.commands.batch.plan import Shard, checked_part_size, parts_of, shard_of
from service.commands.console.exits import RefusedError


@pytest.mark.parametrize(("total", "count"), [(0, 3), (2, 3), (10, 3), (10, 1), (1001, 7)])
def test_shards_have_every_image_once(total: int, count: int) -> None:
    shares = [Shard(index, count).images_of(total) for index in range(count)]
    assert [image for share in shares for image in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("part_size", [1, 3, 10, 11])
def test_parts_have_every_image_once(part_size: int) -> None:
    parts = parts_of(10, part_size, Shard())
    assert [image for part in parts for image in range(part.start, part.stop)] == list(range(10))
    assert all(part.size == part_size for part in parts[:-1])


def test_parts_are_named_by_shard_and_number() -> None:
    assert [part.name for part in parts_of(3, 2, Shard())] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    assert [part.name for part in parts_of(10, 2, Shard(2, 3))] == [
        "part-00002-00000.parquet",
        "part-00002-00001.parquet",
    ]


def test_chunks_end_with_their_part() -> None:
    (_, part) = parts_of(10, 5, Shard())
    assert [(chunk.start, chunk.stop) for chunk in part.chunks(2)] == [(5, 7), (7, 9), (9, 10)]


def test_a_shard_is_read() -> None:
    assert (shard_of(None), shard_of("0/1"), shard_of("6/7")) == (
        Shard(),
        Shard(0, 1),
        Shard(6, 7),
    )


@pytest.mark.parametrize("text", ["", "1", "1/1", "-1/2", "0/0", "0/100001", "a/b", "1/2/3"])
def test_another_shard_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="--shard is"):
        shard_of(text)


@pytest.mark.parametrize("size", [0, -1, 10_000_001])
def test_a_part_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(RefusedError, match="--part-size is"):
        checked_part_size(size)
