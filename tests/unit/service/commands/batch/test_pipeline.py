from __future__ import annotations

import pytest
from msgspec.structs import replace

from service.commands.batch.items import ImageItem, listing_of, packed
from service.commands.batch.pipeline import (
    CHUNK_BYTES,
    LEAST_BATCHES,
    LEAST_STORE_BYTES,
    SMALL_CHUNK_BYTES,
    STORE_SHARE,
    UNKNOWN_TILES_BYTES,
    WINDOW_CHUNKS,
    WINDOW_IMAGES,
    Pools,
    chunk_bytes,
    chunk_images,
    flight_bytes,
    input_bytes,
    names_bytes,
    store_bytes_of,
    window_images,
)
from service.link.messages import InputInfo
from support.service_fakes import CLASSIFIER, DETECTOR

HUGE = replace(DETECTOR, input=InputInfo(height=8192, width=8192))


def test_an_input_s_bytes_bound_those_of_any_image() -> None:
    assert input_bytes(CLASSIFIER.input) == 224 * 224 * 3
    assert input_bytes(InputInfo(short_side=800, long_side=1333, multiple=32)) == 800 * 1344 * 3
    assert input_bytes(InputInfo(height=32, width=32, mean=(0.5,), std=(0.5,))) == 32 * 32 * 3


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 64, 256])
def test_a_chunk_is_whole_batches_and_bounded(batch_size: int) -> None:
    for model in (CLASSIFIER, DETECTOR):
        images = chunk_images(model, batch_size, in_tiles=False)
        assert chunk_bytes(model, batch_size, in_tiles=False) == images * input_bytes(model.input)
        assert images % batch_size == 0
        assert images == batch_size or images * input_bytes(model.input) <= CHUNK_BYTES


def test_small_images_fill_a_chunk_if_there_are_many() -> None:
    def of(part_images: int) -> int:
        return chunk_images(CLASSIFIER, 8, in_tiles=False, part_images=part_images)

    assert of(10_000) == of(10_000_000) == SMALL_CHUNK_BYTES // (8 * 224 * 224 * 3) * 8
    assert of(2_000) == 56
    assert of(1) == of(1_000) == LEAST_BATCHES * 8
    assert chunk_images(DETECTOR, 2, in_tiles=False) == LEAST_BATCHES * 2


def test_a_huge_input_still_makes_a_chunk() -> None:
    assert chunk_images(HUGE, batch_size=4, in_tiles=False) == 4


def test_an_image_in_tiles_is_a_chunk_of_as_many_inputs_as_passes() -> None:
    assert chunk_images(DETECTOR, batch_size=8, in_tiles=True) == 1
    assert chunk_bytes(DETECTOR, batch_size=8, in_tiles=True) == 64 * 800 * 1344 * 3
    assert chunk_bytes(DETECTOR, batch_size=8, in_tiles=True) <= UNKNOWN_TILES_BYTES


def test_a_window_has_a_bounded_number_of_images_and_of_chunks() -> None:
    assert window_images(CLASSIFIER, batch_size=64, in_tiles=False) == WINDOW_IMAGES
    assert window_images(HUGE, batch_size=1, in_tiles=False) == WINDOW_CHUNKS
    assert window_images(DETECTOR, batch_size=64, in_tiles=True) == WINDOW_CHUNKS


@pytest.mark.parametrize("memory_bytes", [2**28, 2**32, 2**40])
@pytest.mark.parametrize(
    ("in_tiles", "most_bytes"),
    [(False, CHUNK_BYTES), (True, chunk_bytes(DETECTOR, 8, in_tiles=True))],
)
def test_the_store_has_room_for_twice_what_is_on_its_way(
    memory_bytes: int, in_tiles: bool, most_bytes: int
) -> None:
    pools = Pools(decoders=3, networks=2, network_cpus=1, network_gpus=0)
    store_bytes = store_bytes_of(pools, memory_bytes, in_tiles=in_tiles)
    assert store_bytes >= LEAST_STORE_BYTES
    assert store_bytes <= max(LEAST_STORE_BYTES, STORE_SHARE * memory_bytes)
    if memory_bytes == 2**40:
        assert store_bytes >= 2 * flight_bytes(pools, most_bytes)


def test_the_names_of_images_in_tiles_are_bounded_with_their_chunks_share() -> None:
    items = [ImageItem(f"photos/{number}.jpg", f"/photos/{number}.jpg") for number in range(1000)]
    listing = listing_of(items)
    crossing = [packed(listing.slice(row, 1)) for row in range(listing.num_rows)]
    assert names_bytes(listing, in_tiles=True) > 1.5 * sum(map(len, crossing))


def test_no_actor_is_started_for_which_there_is_no_chunk() -> None:
    pools = Pools(decoders=3, networks=2, network_cpus=0, network_gpus=1)
    assert pools.with_work(1) == Pools(1, 1, 0, 1)
    assert pools.with_work(2) == Pools(2, 2, 0, 1)
    assert pools.with_work(100) == pools
