"""An output folder within the sources: its files are none of the images, in any run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from service.commands.batch.folder import output_folder
from service.commands.batch.items import items_of
from service.commands.batch.sources import find_items
from service.commands.console.exits import DONE
from support.batch_runs import Batch, write_scenes


@pytest.fixture(autouse=True)
def photos(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "photos", 2)
    return tmp_path / "photos"


@pytest.mark.parametrize("source", ["photos", "photos/**", "link/**", "photos/*/*", "-"])
def test_the_files_of_a_run_are_no_images_of_the_next(
    source: str, batch: Batch, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos.parent / "link").symlink_to(photos)
    (photos / "in").mkdir()
    write_scenes(photos / "in", 1)
    output = photos / "found"
    words = ("classify", "photos", "--output", "photos/found")
    assert batch(*words) == DONE
    (output / "yolo" / "images").mkdir(parents=True)
    write_scenes(output / "yolo" / "images", 1)
    listed = b"".join(bytes(path) + b"\n" for path in photos.rglob("*.p*"))
    listing, skipped = find_items([source], io.BytesIO(listed), output_folder(str(output)).holds)
    addresses = [item.address for item in items_of(listing)]
    assert addresses
    assert not [address for address in addresses if "found" in address]
    assert not skipped
    assert batch(*words) == DONE
    assert json.loads((output / "manifest.json").read_text())["images"] == 3
    assert "all of them before" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["s3://pets/", "s3://pets/**", "S3://pets/*/*"])
def test_the_objects_of_a_run_are_no_images_of_the_next(source: str, empty_bucket: Any) -> None:
    for key in ("in/a.png", "found/b.png", "found/part-00000.parquet", "found-too/c.png"):
        empty_bucket.put_object(Bucket="pets", Key=key, Body=b"bad")
    holds = output_folder("s3://pets/found/").holds
    listing, _ = find_items([source], io.BytesIO(), holds)
    found = [item.address for item in items_of(listing)]
    assert found == ["s3://pets/found-too/c.png", "s3://pets/in/a.png"]
