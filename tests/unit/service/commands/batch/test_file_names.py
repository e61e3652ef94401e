from __future__ import annotations

import pytest

from service.commands.batch.file_names import (
    DATASET_FILES,
    check_foreign,
    dataset_names,
    is_of,
    is_result,
)
from service.commands.batch.plan import Shard
from service.commands.console.exits import RefusedError

ALONE, SHARED = Shard(), Shard(3, 8)
RESULTS = {
    ALONE: ["manifest.json", "part-00000.parquet"],
    SHARED: ["manifest-00003.json", "part-00003-00000.parquet"],
}


@pytest.mark.parametrize("shard", [ALONE, SHARED])
def test_the_files_of_a_run_are_known(shard: Shard) -> None:
    names = [name for each in DATASET_FILES for name in dataset_names(each, shard)]
    check_foreign("found", [*RESULTS[shard], *names, *(f".{each}.12.tmp" for each in names)], shard)
    assert all(is_of(name, shard) for name in names)
    assert [name for name in [*RESULTS[shard], *names] if is_result(name)] == RESULTS[shard]


def test_the_files_of_a_shard_are_no_others() -> None:
    names = [name for each in DATASET_FILES for name in dataset_names(each, SHARED)]
    assert not any(is_of(name, Shard(4, 8)) for name in names)
    with pytest.raises(
        RefusedError, match=r"has coco-00003\.json and \d other files that no such run has written"
    ):
        check_foreign("found", [*RESULTS[ALONE], *names], ALONE)


@pytest.mark.parametrize("name", ["coco.json", "yolo", "label-studio.xml"])
def test_a_data_set_without_parts_is_somebody_elses(name: str) -> None:
    with pytest.raises(RefusedError, match=rf"found has {name} that no such run has written"):
        check_foreign("found", [name], ALONE)


def test_what_systems_put_into_folders_is_nobodys() -> None:
    names = [".DS_Store", "._part-00000.parquet", ".nfs0001", "Thumbs.db", "desktop.ini"]
    check_foreign("found", ["lost+found", *names], ALONE)


def test_a_run_with_shards_is_told_from_one_without() -> None:
    with pytest.raises(RefusedError, match="of a run with --shard"):
        check_foreign("found", RESULTS[SHARED], ALONE)
    with pytest.raises(RefusedError, match="of a run without --shard"):
        check_foreign("found", RESULTS[ALONE], SHARED)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png"], "found has a.png that no such run"),
        (["a.png", "b.png"], "found has a.png and 1 other file that no such run"),
        (["a.png", "b.png", "c"], "found has a.png and 2 other files that no such run"),
    ],
)
def test_other_files_are_counted(names: list[str], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_foreign("found", names, ALONE)
