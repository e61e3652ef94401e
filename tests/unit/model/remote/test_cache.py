"""Files kept under the address that they were pinned to."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path

import pytest

from model.remote.addresses import BucketAddress, RemoteError
from model.remote.cache import find_kept, keep

ADDRESS = BucketAddress("s3", "b", "birds.pth")
FIRST = BucketAddress("s3", "b", "birds.pth", version="1")
SECOND = BucketAddress("s3", "b", "birds.pth", version="2")


def writes(contents: bytes, part: Path) -> None:
    part.write_bytes(contents)


def refuses(part: Path) -> None:
    pytest.fail(f"{part} is downloaded")


def test_a_version_is_found_by_both_addresses(folder: Path) -> None:
    assert find_kept(ADDRESS, folder) is None
    kept = keep(ADDRESS, FIRST, folder, lambda part: writes(b"1", part))
    assert kept.path.read_bytes() == b"1"
    assert kept.sha256 == hashlib.sha256(b"1").hexdigest()
    assert kept.source == "s3://b/birds.pth?versionId=1"
    assert find_kept(ADDRESS, folder) == find_kept(FIRST, folder) == kept
    assert keep(ADDRESS, FIRST, folder, refuses) == kept
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {
        ".json",
        ".lock",
        ".pth",
    }


def test_versions_lie_beside_each_other(folder: Path) -> None:
    first = keep(ADDRESS, FIRST, folder, lambda part: writes(b"1", part))
    second = keep(ADDRESS, SECOND, folder, lambda part: writes(b"2", part))
    assert find_kept(ADDRESS, folder) == second
    assert find_kept(FIRST, folder) == first
    # Back to the first one.
    assert keep(ADDRESS, FIRST, folder, refuses) == find_kept(ADDRESS, folder) == first


def test_a_deleted_file_is_downloaded_again(folder: Path) -> None:
    kept = keep(FIRST, FIRST, folder, lambda part: writes(b"1", part))
    kept.path.unlink()
    assert find_kept(FIRST, folder) is None
    assert keep(FIRST, FIRST, folder, lambda part: writes(b"1", part)) == kept


def test_another_digest_is_not_kept(folder: Path) -> None:
    wrong = hashlib.sha256(b"no").hexdigest()
    with pytest.raises(RemoteError, match=f"has another SHA-256, {wrong}. It was deleted."):
        keep(FIRST, FIRST, folder, lambda part: writes(b"no", part), sha256="ab" * 32)
    assert find_kept(FIRST, folder) is None
    assert [*folder.rglob("birds*")] == []


def test_a_download_that_dies_leaves_no_file(folder: Path) -> None:
    def dies(part: Path) -> None:
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(FIRST, FIRST, folder, dies)
    assert find_kept(FIRST, folder) is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/..", "weights"),
        ("a/.hidden.pth", "weights.pth"),
        ("a/b\n.safetensors", "weights.safetensors"),
        ("ä" * 150 + ".bin", "weights.bin"),
        ("a/ä (1).safetensors", "ä (1).safetensors"),
        ("a/birds.v1", "birds.v1"),
    ],
)
def test_no_name_leads_out_of_the_folder(folder: Path, key: str, name: str) -> None:
    address = BucketAddress("s3", "b", key, version="1")
    kept = keep(address, address, folder, lambda part: writes(b"1", part))
    assert kept.path.name == name
    assert kept.path.parent.parent == folder


def test_of_two_threads_one_downloads(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    started, going_on = threading.Event(), threading.Event()

    def slow(part: Path) -> None:
        started.set()
        assert going_on.wait(30)
        part.write_bytes(b"1")

    threads = [
        threading.Thread(target=keep, args=(FIRST, FIRST, folder, download))
        for download in (slow, refuses)
    ]
    threads[0].start()
    assert started.wait(30)
    threads[1].start()
    while "Another process is fetching s3://b/birds.pth?versionId=1; waiting" not in caplog.text:
        assert threads[1].is_alive()
    going_on.set()
    for thread in threads:
        thread.join(30)
    assert find_kept(FIRST, folder) is not None
    assert len([line for line in caplog.messages if line.startswith("Downloading")]) == 1


def test_a_damaged_record_is_named(folder: Path) -> None:
    keep(FIRST, FIRST, folder, lambda part: writes(b"1", part))
    (record,) = folder.glob("*.json")
    record.write_text("{}", encoding="utf-8")
    with pytest.raises(RemoteError, match=f"The record {record} is damaged .*: delete it."):
        find_kept(FIRST, folder)


def test_a_record_is_for_people_too(folder: Path) -> None:
    keep(ADDRESS, FIRST, folder, lambda part: writes(b"1", part))
    records = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    assert {record["address"] for record in records} == {str(ADDRESS), str(FIRST)}
    assert {record["source"] for record in records} == {str(FIRST)}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RemoteError, match=r"cannot be kept in .*file.*name another cache folder"):
        keep(FIRST, FIRST, tmp_path / "file" / "cache", refuses)


def test_a_folder_that_cannot_be_written_still_gives_what_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = keep(FIRST, FIRST, folder, lambda part: writes(b"1", part))

    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    # Root may write anywhere.
    monkeypatch.setattr(Path, "write_text", read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    assert keep(ADDRESS, FIRST, folder, refuses) == kept
    assert "cannot be noted in" in caplog.text
    assert "(Read-only file system)" in caplog.text
    with pytest.raises(RemoteError, match=r"cannot be kept in .*Read-only file system"):
        keep(SECOND, SECOND, folder, refuses)


def test_the_folder_is_private(folder: Path) -> None:
    kept = keep(FIRST, FIRST, folder, lambda part: writes(b"1", part))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
