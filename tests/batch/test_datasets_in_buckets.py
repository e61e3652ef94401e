"""``--format`` where results, images or both are in a bucket, in tars and in Parquet files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.commands.batch.datasets import dataset as datasets
from service.commands.console.exits import DONE
from support.batch_networks import BrightnessNetwork
from support.batch_runs import Batch, files_in, write_scenes

FORMATS = ("coco", "yolo", "label-studio")
IMAGES = 5


@pytest.fixture(autouse=True)
def photos(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "photos", IMAGES)
    return tmp_path / "photos"


def segment(batch: Batch, *words: str) -> int:
    return batch("segment", "--part-size", "3", *words, network=BrightnessNetwork)


def objects_below(bucket: Any, prefix: str) -> dict[str, bytes]:
    entries = bucket.list_objects_v2(Bucket="pets", Prefix=prefix).get("Contents", [])
    return {
        entry["Key"].removeprefix(prefix): bucket.get_object(Bucket="pets", Key=entry["Key"])[
            "Body"
        ].read()
        for entry in entries
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_a_data_set_in_a_bucket_is_that_of_a_disk(
    kind: str, batch: Batch, empty_bucket: Any, tmp_path: Path
) -> None:
    words = ("photos", "--format", kind, "--output")
    assert segment(batch, *words, "here") == DONE
    assert segment(batch, *words, "s3://pets/found") == DONE
    assert objects_below(empty_bucket, "found/") == files_in(tmp_path / "here")


def test_a_run_that_ends_while_it_fills_a_folder_of_a_bucket_goes_on_to_the_same_files(
    batch: Batch, empty_bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("photos", "--format", "yolo", "--output")
    assert segment(batch, *words, "here") == DONE

    def ending(tree: Any, *_: Any) -> None:
        tree.put({"labels/000.txt": b"half"})
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "write_yolo", ending)
        with pytest.raises(KeyboardInterrupt):
            segment(batch, *words, "s3://pets/found")
    assert "yolo/data.yaml" not in objects_below(empty_bucket, "found/")
    assert segment(batch, *words, "s3://pets/found") == DONE
    assert objects_below(empty_bucket, "found/") == files_in(tmp_path / "here")
    # A part that is made again takes the data set with it.
    empty_bucket.delete_object(Bucket="pets", Key="found/part-00000.parquet")
    assert segment(batch, "photos", "--output", "s3://pets/found") == DONE
    names = list(objects_below(empty_bucket, "found/"))
    assert names == ["manifest.json", "part-00000.parquet", "part-00001.parquet"]


def test_label_studio_gets_the_addresses_of_objects(
    batch: Batch, empty_bucket: Any, photos: Path, tmp_path: Path
) -> None:
    for path in photos.iterdir():
        empty_bucket.upload_file(str(path), "pets", f"in/{path.name}")
    words = ("s3://pets/in", "--format", "label-studio", "--output", "found")
    assert segment(batch, *words) == DONE
    tasks = (tmp_path / "found" / "label-studio.json").read_text()
    assert tasks.count('"image":"s3://pets/in/00') == IMAGES


def test_yolo_has_the_members_of_tars_and_the_rows_of_parquet_files(
    batch: Batch, photos: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("x/1.png", "../2.png"):
            content = (photos / "000.png").read_bytes()
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    bodies = [path.read_bytes() for path in sorted(photos.iterdir())[:2]]
    pq.write_table(pa.table({"bytes": bodies}), tmp_path / "b.parquet")
    words = ("a.tar", "b.parquet", "photos/000.png", "--format", "yolo", "--output", "found")
    assert segment(batch, *words) == DONE
    names = [name for name in files_in(tmp_path / "found") if name.startswith("yolo/labels")]
    assert names == [
        f"yolo/labels/{name}.txt"
        for name in ("2", "a.tar/x/1", "b.parquet#0", "b.parquet#1", "photos/000")
    ]
