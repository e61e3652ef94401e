"""Runs that end in the middle, and go on: every image once, nothing mixed, nothing left."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from model.remote.addresses import RemoteError
from service.commands.batch import run as batch_run
from service.commands.console.exits import DONE, FAILED, REFUSED, RefusedError
from service.engine.batches import DeviceFailedError
from support.batch_networks import MeanNetwork
from support.batch_runs import (
    Batch,
    failing_after,
    files_in,
    pipeline_here,
    rows_of,
    write_scenes,
)

WORDS = ("classify", "photos", "--output", "found", "--part-size", "4", "--batch-size", "2")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "photos", 10)
    return tmp_path / "photos"


@pytest.fixture
def whole(batch: Batch, photos: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run that was not disturbed."""
    assert batch(*WORDS) == DONE
    files = files_in(tmp_path / "found")
    (tmp_path / "found").rename(tmp_path / "whole")
    return files


def test_a_run_leaves_its_parts_and_a_manifest_alone(whole: dict[str, bytes]) -> None:
    assert list(whole) == [
        "manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]


@pytest.mark.parametrize("tables", [0, 1, 2])
@pytest.mark.parametrize("error", [DeviceFailedError("The device is lost."), KeyboardInterrupt()])
def test_a_run_that_ends_anywhere_goes_on_to_the_same_files(
    tables: int,
    error: BaseException,
    whole: dict[str, bytes],
    batch: Batch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "run_pipeline", failing_after(tables, error))
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                batch(*WORDS)
        else:
            assert batch(*WORDS) == (FAILED if tables else REFUSED)
    assert "manifest.json" not in files_in(tmp_path / "found")
    assert batch(*WORDS) == DONE
    assert files_in(tmp_path / "found") == whole


@pytest.mark.usefixtures("photos")
def test_a_run_that_adds_nothing_to_the_parts_of_another_has_not_done_nothing(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = OSError(errno.EIO, "Input/output error")
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "run_pipeline", failing_after(1, lost))
        assert batch(*WORDS) == FAILED
        patched.setattr(batch_run, "run_pipeline", failing_after(0, lost))
        assert batch(*WORDS) == FAILED


def test_a_second_run_computes_only_what_is_missing(
    whole: dict[str, bytes], batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(ray: Any, chunks: Sequence[pa.Table], *rest: Any) -> Iterator[pa.Table]:
        seen.extend(path for chunk in chunks for path in chunk.column("path").to_pylist())
        return pipeline_here(ray, chunks, *rest)

    monkeypatch.setattr(batch_run, "run_pipeline", watched)
    (tmp_path / "whole").rename(tmp_path / "found")
    (tmp_path / "found" / "part-00001.parquet").unlink()
    assert batch(*WORDS) == DONE
    assert seen == [f"photos/{number:03d}.png" for number in (4, 5, 6, 7)]
    assert files_in(tmp_path / "found") == whole
    assert batch(*WORDS) == DONE
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["part-00001.parquet", "manifest.json", ".plan.parquet"])
@pytest.mark.parametrize("content", [b"", b"[1]"])
def test_a_damaged_file_is_named_and_made_again_once_it_is_removed(
    name: str, content: bytes, whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    (tmp_path / "found" / name).write_bytes(content)
    with pytest.raises(RefusedError, match=rf"found has {name}, which is damaged.*remove it"):
        batch(*WORDS)
    (tmp_path / "found" / name).unlink()
    assert batch(*WORDS) == DONE
    assert files_in(tmp_path / "found") == whole


def test_a_manifest_without_a_model_is_of_another_run(
    whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    facts = json.loads(whole["manifest.json"])
    del facts["model"]
    (tmp_path / "whole").rename(tmp_path / "found")
    (tmp_path / "found" / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(
        RefusedError,
        match=r"manifest\.json, of a run that differs from this one: it states no model",
    ):
        batch(*WORDS)


@pytest.mark.parametrize("output", ["", "s3://", "https://example.com/found"])
def test_an_output_that_is_no_folder_and_no_bucket_is_refused(
    output: str, photos: Path, batch: Batch
) -> None:
    with pytest.raises(RefusedError, match=r"is empty|is no address of a bucket"):
        batch("classify", "photos", "--output", output)


def test_what_a_killed_run_left_is_removed(
    whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    (tmp_path / "found" / "part-00002.parquet").rename(
        tmp_path / "found" / ".part-00002.parquet.4711.tmp"
    )
    (tmp_path / "found" / ".lock").touch()
    assert batch(*WORDS) == DONE
    assert files_in(tmp_path / "found") == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--top-k", "2"), "--top-k was 5 and is 2"),
        (("--part-size", "5"), "--part-size was 4 and is 5"),
        (("--dtype", "bfloat16"), "--dtype was float32 and is bfloat16"),
    ],
)
def test_another_option_is_refused(
    words: tuple[str, ...], said: str, whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    with pytest.raises(RefusedError, match=said):
        batch(*WORDS, *words)
    assert files_in(tmp_path / "found") == whole


class OtherWeights(MeanNetwork):
    """The network with another file."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.model = replace(self.model, weights_sha256="cd" * 32)


def test_another_model_is_refused(whole: dict[str, bytes], batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    (tmp_path / "found" / "part-00001.parquet").unlink()
    with pytest.raises(
        RefusedError, match="SHA-256 of the weights was abababababab and is cdcdcdcdcdcd"
    ):
        batch(*WORDS, network=OtherWeights)


def change(photos: Path) -> None:
    write_scenes(photos, 1, [(64, 64)])


def add(photos: Path) -> None:
    (photos / "new.png").write_bytes((photos / "000.png").read_bytes())


def remove(photos: Path) -> None:
    (photos / "003.png").unlink()


@pytest.mark.parametrize("edit", [change, add, remove])
def test_changed_sources_are_refused_once_a_run_is_complete(
    edit: Any, whole: dict[str, bytes], batch: Batch, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    edit(photos)
    with pytest.raises(RefusedError, match="other images, or images that have changed"):
        batch(*WORDS)


@pytest.fixture
def unfinished(batch: Batch, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ended after its first part."""
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "run_pipeline", failing_after(1, RemoteError("No bucket.")))
        assert batch(*WORDS) == FAILED


@pytest.mark.parametrize(
    ("edit", "said"), [(change, "photos/000.png is changed"), (add, "photos/new.png is new")]
)
def test_changed_sources_of_an_unfinished_run_are_named(
    edit: Any, said: str, unfinished: None, batch: Batch, photos: Path
) -> None:
    edit(photos)
    with pytest.raises(RefusedError, match=said):
        batch(*WORDS)


def test_a_file_that_vanishes_before_its_turn_is_unreadable_and_told(
    unfinished: None,
    batch: Batch,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    (photos / "007.png").unlink()
    assert batch(*WORDS) == FAILED
    errors = {row["path"]: row["error"] for row in rows_of(tmp_path / "found") if row["error"]}
    assert errors == {
        "photos/007.png": {"slug": "unreadable", "detail": "No such file or directory"}
    }
    said = capsys.readouterr().err
    assert "photos/007.png is gone since this run began" in said
    assert "1 failed (unreadable 1)" in said


def test_a_folder_with_other_files_is_refused(batch: Batch, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "notes.txt").touch()
    with pytest.raises(RefusedError, match=r"found has notes\.txt that no such run has written"):
        batch(*WORDS)


def test_a_folder_of_shards_is_not_mixed_with_a_run_without(
    whole: dict[str, bytes], batch: Batch, tmp_path: Path
) -> None:
    (tmp_path / "whole").rename(tmp_path / "found")
    with pytest.raises(RefusedError, match="of a run without --shard"):
        batch(*WORDS, "--shard", "0/2")


def test_a_full_disk_is_told_and_the_run_goes_on_later(
    whole: dict[str, bytes],
    batch: Batch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = pq.ParquetWriter.write_table
    written: list[pa.Table] = []

    def full(self: Any, table: pa.Table, **rest: Any) -> None:
        written.append(table)
        if len(written) > 2:  # the first is the listing
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, table, **rest)

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", full)
        assert batch(*WORDS) == FAILED
    said = capsys.readouterr().err
    assert "The results cannot be written: the disk is full." in said
    assert "the same command goes on from there" in said
    assert batch(*WORDS) == DONE
    assert files_in(tmp_path / "found") == whole


def test_shards_share_a_folder_and_make_every_image_once(
    batch: Batch, photos: Path, tmp_path: Path
) -> None:
    for shard in ("2/3", "0/3", "1/3"):
        assert batch(*WORDS, "--shard", shard) == DONE
    names = list(files_in(tmp_path / "found"))
    assert names == [
        *(f"manifest-0000{shard}.json" for shard in range(3)),
        *(f"part-0000{shard}-00000.parquet" for shard in range(3)),
    ]
    assert [row["path"] for row in rows_of(tmp_path / "found")] == [
        f"photos/{number:03d}.png" for number in range(10)
    ]
    with pytest.raises(RefusedError, match="the N of --shard was 3 and is 4"):
        batch(*WORDS, "--shard", "3/4")


def test_every_part_says_what_it_was_made_of(whole: dict[str, bytes], tmp_path: Path) -> None:
    found = pq.read_metadata(tmp_path / "whole" / "part-00002.parquet").metadata
    facts = json.loads(found[b"overlock"])
    assert facts["sources"] == ["photos"]
    assert facts["model"]["weights_sha256"] == "ab" * 32
    assert facts["options"]["top_k"] == 5
    assert (facts["images"], facts["failed"]) == (2, {})
    manifest = json.loads(whole["manifest.json"])
    assert (manifest["images"], manifest["failed"], len(manifest["parts"])) == (10, {}, 3)
