"""Sources of every kind, here and in a bucket: which images they are, and what is read of them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.scenes.scenes import draw_scene
from service.commands.batch.items import ImageItem, digest_of, items_of
from service.commands.batch.reading import ItemReader
from service.commands.batch.sources import find_items
from service.commands.console.exits import DONE, FAILED, RefusedError
from support.batch_runs import Batch, files_in, rows_of
from support.scene_files import png


def image(number: int) -> bytes:
    return png(draw_scene(540_000 + number, 64, 80).image)


def found(*names: str, stdin: bytes = b"") -> list[ImageItem]:
    listing, _ = find_items(names, io.BytesIO(stdin))
    return list(items_of(listing))


def paths(*names: str, stdin: bytes = b"") -> list[str]:
    return [item.path for item in found(*names, stdin=stdin)]


def bodies(items: list[ImageItem]) -> list[Any]:
    return list(ItemReader().bodies(items))


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photos/b.png", "photos/a.png", "photos/in/c.png", "photos/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(ord(path.stem[0])))
    return tmp_path / "photos"


def write_tar(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            facts = tarfile.TarInfo(name)
            content = image(ord(Path(name).stem[-1])) if name.endswith(".png") else b"{}"
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))


ALL = ["photos/a.png", "photos/b.png", "photos/in/c.png"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("photos",), ALL),
        (("photos/in", "photos/b.png", "photos/a.png"), ALL),
        (("photos", "photos/b.png", "./photos/b.png"), ALL),
        (("photos/*.png",), ALL[:2]),
        (("photos/**/*.png",), ALL),
        (("photos/notes.txt",), ["photos/notes.txt"]),
    ],
)
def test_files_folders_and_patterns_are_sorted_and_named_once(
    names: tuple[str, ...], expected: list[str]
) -> None:
    assert paths(*names) == expected


def test_the_order_is_not_that_of_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, walk = found("photos"), os.walk

    def backwards(folder: Path, **options: Any) -> Iterator[Any]:
        for parent, folders, files in walk(folder, **options):
            yield parent, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert found("photos") == expected


def test_a_list_is_read_from_the_standard_input(photos: Path) -> None:
    lines = f"photos/b.png\n\n{photos / 'a.png'}\nphotos/gone.png\n"
    assert paths("-", stdin=lines.encode()) == [
        str(photos / "a.png"),
        "photos/b.png",
        "photos/gone.png",
    ]


def test_a_list_whose_names_nul_ends_may_have_names_with_newlines(photos: Path) -> None:
    (photos / "a.png").rename(photos / "a\nb.png")
    assert paths("-", stdin=b"photos/a\nb.png\0photos/b.png\0") == [
        "photos/a\nb.png",
        "photos/b.png",
    ]


def test_a_name_that_is_not_utf_8_is_read_and_shown_escaped(photos: Path) -> None:
    (photos / "a.png").rename(photos / os.fsdecode(b"a\xff.png"))
    items = found("photos/a*", "-", stdin=b"photos/a\xff.png")
    assert [item.path for item in items] == ["photos/a\\xff.png"]
    assert bodies(items) == [image(ord("a"))]


def test_a_folder_that_cannot_be_read_is_told(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(folder: Path | str) -> Any:
        if Path(folder).name == "in":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    listing, skipped = find_items(["photos"], io.BytesIO())
    assert listing.num_rows == 2
    assert skipped["folders that cannot be read"] == 1


def test_a_pipe_with_an_image_s_name_is_unreadable(photos: Path) -> None:
    os.mkfifo(photos / "d.png")
    (body,) = bodies(found("photos/d.png"))
    assert body.kind == "unreadable"


def test_a_list_may_have_a_name_that_is_too_long() -> None:
    assert len(paths("-", stdin=b"photos/a.png\n" + b"x" * 300)) == 2


def test_a_tar_is_read_by_its_members_positions(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", ["y/2.png", "y/2.json", "x/1.png", ".h/.1.png", "y/2.png"])
    items = found("0.tar")
    assert [item.path for item in items] == ["0.tar/x/1.png", "0.tar/y/2.png"]
    assert bodies(items) == [image(ord("1")), image(ord("2"))]


def test_a_compressed_tar_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"0\.tar\.gz is a compressed tar"):
        found("0.tar.gz")


def test_a_damaged_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(RefusedError, match=r"0\.tar cannot be read as a tar"):
        found("0.tar")


def test_a_tar_that_is_cut_off_in_a_header_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", ["1.png", "2.png"])
    _, second = found("0.tar")
    assert second.offset is not None
    with (tmp_path / "0.tar").open("r+b") as file:
        file.truncate(second.offset - 100)
    with pytest.raises(RefusedError, match="a bad header at byte"):
        found("0.tar")


@pytest.mark.parametrize("kept_bytes", [1, 2**20])
def test_a_parquet_file_has_bytes_in_its_rows(
    kept_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.commands.batch.reading.KEPT_ROW_GROUP_BYTES", kept_bytes)
    contents = [image(number) for number in range(5)]
    table = pa.table({"bytes": pa.array([*contents, None], pa.binary()), "id": range(6)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    items = found("a.parquet")
    assert [item.path for item in items] == [f"a.parquet#{row}" for row in range(6)]
    read = bodies(items)
    assert read[:5] == contents
    assert (read[5].kind, read[5].detail) == ("unreadable", "The row has no bytes.")


def test_a_parquet_file_has_paths_in_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["photos/b.png", "photos/a.png"]}), tmp_path / "a.parquet")
    assert found("a.parquet") == found("photos/*.png")


def test_a_parquet_file_without_such_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "bytes": [7]}), tmp_path / "a.parquet")
    with pytest.raises(
        RefusedError, match=r"no column path; it has url \(string\), bytes \(int64\)"
    ):
        found("a.parquet")


@pytest.mark.parametrize("name", ["photos/empty", "photos/*.jpg", "photo"])
def test_sources_without_an_image_are_refused(name: str, photos: Path) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(RefusedError, match="There is no image in"):
        found(name)


def test_a_listing_s_digest_changes_with_each_file(photos: Path) -> None:
    digests = {digest_of(find_items(["photos"], io.BytesIO())[0])}
    os.utime(photos / "a.png", ns=(1, 1))
    digests.add(digest_of(find_items(["photos"], io.BytesIO())[0]))
    (photos / "d.png").write_bytes(b"")
    digests.add(digest_of(find_items(["photos"], io.BytesIO())[0]))
    assert len(digests) == 3


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def test_a_file_that_changed_or_went_since_it_was_listed_is_unreadable(photos: Path) -> None:
    items = found("photos")
    grow(photos / "a.png")
    (photos / "b.png").unlink()
    changed, gone, good = bodies(items)
    assert changed.detail.startswith("It has changed since it was listed")
    assert (gone.kind, gone.detail) == ("unreadable", "No such file or directory")
    assert good == image(ord("c"))


@pytest.fixture
def bucket(empty_bucket: Any) -> Any:
    for name in ("in/b.png", "in/a.png", "in/deep/c.png", "in/notes.txt"):
        empty_bucket.put_object(Bucket="pets", Key=name, Body=image(ord(Path(name).stem[0])))
    return empty_bucket


IN_BUCKET = ["s3://pets/in/a.png", "s3://pets/in/b.png", "s3://pets/in/deep/c.png"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("s3://pets/in",), IN_BUCKET),
        (("s3://pets/in/",), IN_BUCKET),
        (("s3://pets/in/*.png", "s3://pets/in/a.png"), IN_BUCKET[:2]),
    ],
)
def test_objects_are_found_as_files_are(
    names: tuple[str, ...], expected: list[str], bucket: Any
) -> None:
    items = found(*names)
    assert [item.path for item in items] == expected
    assert all(item.size and item.stamp for item in items)
    assert bodies(items)[0] == image(ord("a"))


def test_containers_in_a_bucket_are_read(bucket: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", ["y/2.png", "x/1.png"])
    bucket.upload_file(str(tmp_path / "0.tar"), "pets", "s/0.tar")
    pq.write_table(pa.table({"bytes": [image(7)]}), tmp_path / "a.parquet")
    bucket.upload_file(str(tmp_path / "a.parquet"), "pets", "s/a.parquet")
    items = found("s3://pets/s/*.tar", "s3://pets/s/a.parquet")
    assert [item.path for item in items] == [
        "s3://pets/s/0.tar/y/2.png",
        "s3://pets/s/0.tar/x/1.png",
        "s3://pets/s/a.parquet#0",
    ]
    assert bodies(items) == [image(ord("2")), image(ord("1")), image(7)]


def test_a_named_object_that_is_not_there_is_not_passed_over(bucket: Any) -> None:
    assert "s3://pets/in/gone.png" in paths("s3://pets/in/a.png", "s3://pets/in/gone.png")
    with pytest.raises(RefusedError, match="no image"):
        found("s3://pets/nothing/")


def test_an_object_that_is_gone_is_unreadable(bucket: Any) -> None:
    (gone,) = bodies(found("-", stdin=b"s3://pets/in/gone.png\n"))
    assert gone.kind == "unreadable"
    assert gone.detail == "There is no object s3://pets/in/gone.png."


def listed(bucket: Any, prefix: str) -> list[str]:
    entries = bucket.list_objects_v2(Bucket="pets", Prefix=prefix).get("Contents", [])
    return sorted(entry["Key"].removeprefix(prefix) for entry in entries)


def test_results_go_to_a_bucket_and_a_second_run_makes_what_is_missing(
    bucket: Any, batch: Batch, tmp_path: Path
) -> None:
    words = ("classify", "s3://pets/in", "--part-size", "2", "--output")
    assert batch(*words, "here") == DONE
    assert batch(*words, "s3://pets/out") == DONE
    assert listed(bucket, "out/") == ["manifest.json", "part-00000.parquet", "part-00001.parquet"]
    bucket.delete_object(Bucket="pets", Key="out/part-00000.parquet")
    assert batch(*words, "s3://pets/out") == DONE
    for name, content in files_in(tmp_path / "here").items():
        kept = bucket.get_object(Bucket="pets", Key=f"out/{name}")["Body"].read()
        assert kept == content


def test_an_object_that_is_another_now_is_noticed(bucket: Any, batch: Batch) -> None:
    words = ("classify", "s3://pets/in", "--output", "s3://pets/out")
    assert batch(*words) == DONE
    bucket.put_object(Bucket="pets", Key="in/a.png", Body=image(1))
    with pytest.raises(RefusedError, match="other images, or images that have changed"):
        batch(*words)


def test_every_failure_is_a_row_with_its_slug(batch: Batch, tmp_path: Path, photos: Path) -> None:
    (photos / "bad.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "text.jpg").write_bytes(b"text")
    assert batch("classify", "photos", "photos/gone.png", "--output", "found") == FAILED
    errors = {
        row["path"]: row["error"]["slug"] for row in rows_of(tmp_path / "found") if row["error"]
    }
    assert errors == {
        "photos/bad.png": "invalid-image",
        "photos/gone.png": "unreadable",
        "photos/text.jpg": "invalid-image",
    }
