"""Large drawn scenes in tiles, by the real service."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.metrics import SegmentationCounts
from model.images.tiles import TileGrid
from model.scenes.mosaics import draw_mosaic
from model.scenes.scenes import SEGMENT_NAMES
from support.command_line import overlock
from support.running_service import CLIENT, RunningService
from support.tiled_scenes import seam_rate

SEED = 530_000
"""Held out: training starts at ``HELD_OUT_SEEDS_END``."""

TIMEOUT_SECONDS = 110


@pytest.fixture(autouse=True)
def _pillow_reads_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)


@dataclass(frozen=True)
class LargeImage:
    """A mosaic of scenes, as a camera's file."""

    rows: int
    columns: int
    side: int
    tile: int

    @cached_property
    def file(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self._scene[0]).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    @cached_property
    def truth(self) -> NDArray[np.uint8]:
        return self._scene[1]

    @property
    def grid(self) -> TileGrid:
        height, width = self.truth.shape
        return TileGrid(height, width, self.tile, 0.2)

    @cached_property
    def _scene(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        scene = draw_mosaic(SEED, self.rows, self.columns, self.side)
        return scene.image, scene.label_map

    def crops(self) -> Iterator[tuple[bytes, tuple[slice, slice]]]:
        """Cut crops as large as a tile, away from the tiles' own places."""
        image = Image.open(io.BytesIO(self.file))
        height, width = self.truth.shape
        for top in range(37, height - self.tile, self.tile // 2):
            for left in range(53, width - self.tile, self.tile // 2):
                buffer = io.BytesIO()
                crop = image.crop((left, top, left + self.tile, top + self.tile))
                crop.save(buffer, "PNG", compress_level=1)
                yield buffer.getvalue(), np.s_[top : top + self.tile, left : left + self.tile]


def segment(
    service: RunningService, body: bytes, query: str = "", accept: str = "image/png"
) -> httpx.Response:
    answer = CLIENT.post(
        f"{service.url}/v1/segment{query}",
        content=body,
        headers={"Accept": accept},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    return answer


def label_map(answer: httpx.Response) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image)


def check(service: RunningService, image: LargeImage, query: str) -> None:
    """Check an image's label map: no seams, and no worse than its crops' alone."""
    labels = label_map(segment(service, image.file, query))
    assert labels.shape == image.truth.shape
    at_edges, nearby = seam_rate(labels, image.grid)
    # Few edges cross few objects; a hard seam would be ten times its surroundings.
    assert at_edges <= 1.25 * nearby
    in_tiles, alone = (SegmentationCounts(len(SEGMENT_NAMES)) for _ in range(2))
    for body, window in image.crops():
        in_tiles.add(labels[window], image.truth[window])
        alone.add(label_map(segment(service, body)), image.truth[window])
    got, want = in_tiles.metrics()["miou"], alone.metrics()["miou"]
    assert got is not None
    assert want is not None
    assert got >= want - 0.5, f"{got} in tiles, {want} of crops alone"


@pytest.fixture(scope="module")
def large() -> LargeImage:
    return LargeImage(rows=3, columns=4, side=750, tile=1024)


@pytest.mark.slow
def test_a_large_scene_in_tiles_has_no_seams_and_is_no_worse_than_its_crops(
    demo: RunningService, large: LargeImage
) -> None:
    check(demo, large, "?tile=1024")


def test_all_forms_of_an_answer_in_tiles_say_the_same(
    demo: RunningService, large: LargeImage
) -> None:
    query = "?tile=2048&overlap=0.1"
    labels = label_map(segment(demo, large.file, query))
    document = segment(demo, large.file, f"{query}&mask=none", "application/json").json()
    counts = {each["class_id"]: each["pixels"] for each in document["classes"]}
    assert counts == {c: int((labels == c).sum()) for c in np.unique(labels).tolist()}
    assert document["image"]["width"] == labels.shape[1]
    overlay = segment(demo, large.file, f"{query}&view=overlay")
    with Image.open(io.BytesIO(overlay.content)) as picture:
        assert (picture.height, picture.width) == labels.shape


def test_an_image_that_fits_in_one_tile_is_answered_as_without(
    demo: RunningService, large: LargeImage
) -> None:
    assert segment(demo, large.file, "?tile=4096").content == segment(demo, large.file).content


def test_the_command_line_finds_the_same_here_and_there(
    demo: RunningService, large: LargeImage, tmp_path: Path
) -> None:
    (tmp_path / "large.jpg").write_bytes(large.file)
    words = ("predict", "segment", "large.jpg", "--tile", "1024", "--mask", "rle", "--json")
    found = []
    for options in (("--dtype", "float32"), ("--url", demo.url)):
        done = overlock(*words, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        del document["timing"]
        found.append(document)
    assert found[0] == found[1]


def test_the_metrics_count_every_pass(demo: RunningService, large: LargeImage) -> None:
    before = demo.metric("overlock_batch_size_sum", 'task="segment"')
    segment(demo, large.file, "?tile=1024&mask=none", "application/json")
    assert demo.metric("overlock_batch_size_sum", 'task="segment"') == before + 13


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_hundred_megapixels_have_no_seams_and_bounded_memory() -> None:
    huge = LargeImage(rows=6, columns=8, side=1500, tile=2048)
    assert huge.truth.shape == (9000, 12_000)
    settings = {
        "max_image_pixels": huge.truth.size,
        "max_body_bytes": 100 * 2**20,
        "max_queue_bytes": 2**30,
        "default_timeout_seconds": 600,
    }
    with RunningService(**settings) as service:
        (worker,) = service.children("service.web.process")
        check(service, huge, "?tile=2048")
        status = Path(f"/proc/{worker}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    # Its pixels take 432 MB, as Pillow keeps them; all else is a label map and its file.
    assert int(found[1]) < 1_200_000, f"{found[1]} kB"
