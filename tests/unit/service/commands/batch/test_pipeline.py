from __future__ import annotations

import pytest
from msgspec.structs import replace

from service.commands.batch.pipeline import (
    CHUNK_BYTES,
    LEAST_STORE_BYTES,
    STORE_SHARE,
    Pools,
    chunk_images,
    flight_bytes,
    input_bytes,
    store_bytes_of,
)
from service.link.messages import InputInfo
from support.service_fakes import CLASSIFIER, DETECTOR


def test_an_input_s_bytes_bound_those_of_any_image() -> None:
    assert input_bytes(CLASSIFIER.input) == 224 * 224 * 3
    assert input_bytes(InputInfo(short_side=800, long_side=1333, multiple=32)) == 800 * 1344 * 3
    assert input_bytes(InputInfo(height=32, width=32, mean=(0.5,), std=(0.5,))) == 32 * 32


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 64, 256])
def test_a_chunk_is_whole_batches_and_bounded(batch_size: int) -> None:
    for model in (CLASSIFIER, DETECTOR):
        images = chunk_images(model, batch_size)
        assert images % batch_size == 0
        assert images == batch_size or images * input_bytes(model.input) <= CHUNK_BYTES


def test_a_huge_input_still_makes_a_chunk() -> None:
    huge = replace(DETECTOR, input=InputInfo(height=8192, width=8192))
    assert chunk_images(huge, batch_size=4) == 4


@pytest.mark.parametrize("memory_bytes", [2**28, 2**32, 2**40])
def test_the_store_has_room_for_twice_what_is_on_its_way(memory_bytes: int) -> None:
    pools = Pools(decoders=3, networks=2, network_cpus=1, network_gpus=0)
    store_bytes = store_bytes_of(pools, memory_bytes)
    assert store_bytes >= LEAST_STORE_BYTES
    assert store_bytes <= max(LEAST_STORE_BYTES, STORE_SHARE * memory_bytes)
    if memory_bytes == 2**40:
        assert store_bytes >= 2 * flight_bytes(pools, CHUNK_BYTES)
