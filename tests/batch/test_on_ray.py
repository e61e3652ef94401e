"""What only a real Ray shows: memory, processes that die, and a process for each GPU."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Self

import pytest
import ray
from PIL import Image
from ray._private.internal_api import node_stats

from service.commands.batch import machines
from service.commands.batch.pipeline import Pools, chunk_bytes, flight_bytes, input_bytes
from service.commands.console.exits import DONE
from service.processes.gpus import Gpus
from support.batch_networks import (
    DyingNetwork,
    NotingNetwork,
    NotingPair,
    SlowDetectingNetwork,
    SlowSmallDetectingNetwork,
)
from support.batch_runs import Batch, rows_of, write_scenes
from support.service_fakes import DETECTOR

pytestmark = pytest.mark.timeout(600)  # a cluster starts its processes on a busy machine

IMAGES = 100
DETECT = (
    *("detect", "photos", "--output", "found"),
    *("--model", "mask_rcnn_overlock_xt", "--weights", "random", "--no-masks"),
)


def link_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Make a photo of this width and height, with many names."""
    (folder / "photos").mkdir()
    Image.effect_noise(size, 40).convert("RGB").save(folder / "photo.jpg")
    for number in range(count):
        os.link(folder / "photo.jpg", folder / "photos" / f"{number:03d}.jpg")


class StoreWatch:
    """Samples how much of the object store is in use, in a thread."""

    def __init__(self) -> None:
        (node,) = ray.nodes()
        self._raylet = node["NodeManagerAddress"], node["NodeManagerPort"]
        self.most_bytes = self.spilled_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            stats = node_stats(*self._raylet, include_memory_info=False).store_stats
            self.most_bytes = max(self.most_bytes, stats.object_store_bytes_used)
            self.spilled_bytes = stats.spilled_bytes_total


def test_memory_does_not_grow_with_the_images_that_wait_for_a_slow_network(
    on_ray: Batch, tmp_path: Path
) -> None:
    link_photos(tmp_path, IMAGES, (1333, 800))
    with StoreWatch() as store:
        assert on_ray(*DETECT, "--batch-size", "1", network=SlowDetectingNetwork) == DONE
    assert len(rows_of(tmp_path / "found")) == IMAGES
    input_size = input_bytes(DETECTOR.input)
    most_bytes = chunk_bytes(DETECTOR, batch_size=1, in_tiles=False)
    bound = flight_bytes(Pools(1, 1, 1, 0), most_bytes)
    assert most_bytes < store.most_bytes <= bound
    assert bound < IMAGES * input_size / 2
    assert store.spilled_bytes == 0


def test_memory_does_not_grow_with_the_images_in_tiles_that_wait_for_a_slow_network(
    on_ray: Batch, tmp_path: Path
) -> None:
    images, passes, tile_bytes = 60, 50, 200 * 200 * 3
    link_photos(tmp_path, images, (1400, 1400))
    words = (*DETECT, "--batch-size", "64", "--tile", "256", "--score-threshold", "0.95")
    with StoreWatch() as store:
        assert on_ray(*words, network=SlowSmallDetectingNetwork) == DONE
    assert len(rows_of(tmp_path / "found")) == images
    most_bytes = chunk_bytes(SlowSmallDetectingNetwork.offered, batch_size=64, in_tiles=True)
    bound = flight_bytes(Pools(1, 1, 1, 0), most_bytes)
    assert passes * tile_bytes < store.most_bytes <= bound
    assert bound < images * passes * tile_bytes / 2
    assert store.spilled_bytes == 0


def test_a_network_that_dies_takes_no_image_with_it(on_ray: Batch, tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 6)
    words = ("classify", "photos", "--output", "found", "--batch-size", "1")
    assert on_ray(*words, network=DyingNetwork) == DONE
    assert (tmp_path / "died").exists()
    assert [row["path"] for row in rows_of(tmp_path / "found")] == [
        f"photos/{number:03d}.png" for number in range(6)
    ]


def run_on_two_gpus(
    on_ray: Batch,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    images: int,
    network: type[NotingNetwork],
) -> list[str]:
    """Run in chunks of four images, and return the GPU of each network that was made."""
    monkeypatch.setattr(machines, "find_gpus", lambda: Gpus(2, None, expected=True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    write_scenes(folder / "photos", images)
    words = ("classify", "photos", "--output", "found", "--batch-size", "1")
    assert on_ray(*words, "--devices", "cuda:0,cuda:1", network=network) == DONE
    assert len(rows_of(folder / "found")) == images
    notes = [re.fullmatch(r"cuda:0 is (\d+) in \d+", path.name) for path in folder.iterdir()]
    return sorted(note[1] for note in notes if note)


def test_each_of_several_gpus_has_a_network_of_its_own(
    on_ray: Batch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus = run_on_two_gpus(on_ray, monkeypatch, tmp_path, images=12, network=NotingPair)
    assert sorted(set(gpus)) == ["0", "1"]
    assert len(gpus) == 3  # one more process looked at the model before


def test_no_network_is_loaded_for_which_there_is_no_chunk_and_ray_has_nothing_to_warn_of(
    on_ray: Batch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A warning of Ray Data's would be an error here."""
    gpus = run_on_two_gpus(on_ray, monkeypatch, tmp_path, images=3, network=NotingNetwork)
    assert len(gpus) == 2  # one more process looked at the model before
