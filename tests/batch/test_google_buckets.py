"""Sources and results in Google's buckets, on an emulator of their service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gcp_storage_emulator.server import create_server

from model.remote.addresses import RemoteError
from service.commands.batch import buckets
from service.commands.console.exits import DONE, FAILED, RefusedError
from support.batch_runs import Batch, files_in, rows_of, write_scenes
from support.running_service import free_port


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, batch: Batch, tmp_path: Path) -> Iterator[Any]:
    """A file system of the bucket ``pets``, which has three images."""
    port = free_port()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="pets")
    server.start()
    buckets._file_system.cache_clear()
    found, _ = buckets.files_of("gs://pets")
    write_scenes(tmp_path / "photos", 3)
    for path in (tmp_path / "photos").iterdir():
        found.put_file(str(path), f"pets/in/{path.name}")
    yield found
    buckets._file_system.cache_clear()
    server.stop()


def test_results_are_those_of_files_and_a_second_run_makes_what_is_missing(
    files: Any, batch: Batch, tmp_path: Path
) -> None:
    words = ("classify", "gs://pets/in", "--part-size", "2", "--output")
    assert batch(*words, "here") == DONE
    assert batch(*words, "gs://pets/out") == DONE
    files.rm_file("pets/out/part-00000.parquet")
    assert batch(*words, "gs://pets/out") == DONE
    assert {
        name: files.cat_file(f"pets/out/{name}") for name in files_in(tmp_path / "here")
    } == files_in(tmp_path / "here")
    assert len(files.ls("pets/out")) == len(files_in(tmp_path / "here"))


def test_patterns_and_single_objects_are_found(files: Any, batch: Batch, tmp_path: Path) -> None:
    assert batch("classify", "gs://pets/*/00[12].png", "--output", "found") == DONE
    paths = [row["path"] for row in rows_of(tmp_path / "found")]
    assert paths == ["gs://pets/in/001.png", "gs://pets/in/002.png"]
    words = ("classify", "gs://pets/in/000.png", "gs://pets/in/gone.png", "--output", "some")
    assert batch(*words) == FAILED
    errors = {
        row["path"]: row["error"] and row["error"]["slug"] for row in rows_of(tmp_path / "some")
    }
    assert errors == {"gs://pets/in/000.png": None, "gs://pets/in/gone.png": "unreadable"}


def test_an_object_that_is_another_now_is_noticed(files: Any, batch: Batch) -> None:
    words = ("classify", "gs://pets/in", "--output", "gs://pets/out")
    assert batch(*words) == DONE
    files.pipe_file("pets/in/000.png", files.cat_file("pets/in/001.png"))
    with pytest.raises(RefusedError, match="other images, or images that have changed"):
        batch(*words)


def test_a_bucket_that_is_not_there_is_told(files: Any, batch: Batch) -> None:
    with pytest.raises(RemoteError, match="bucket none, if there is one"):
        batch("classify", "gs://none/in", "--output", "found")
