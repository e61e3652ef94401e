"""A run on a cluster that loses machines, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from service.commands.batch import run as batch_run
from service.commands.batch.pipeline import Pools
from service.commands.batch.watch import MachinesLostError
from service.commands.console.exits import DONE, FAILED, RefusedError
from support.batch_runs import Batch, no_ray, rows_of, write_scenes

WORDS = ("classify", "photos", "--output", "found", "--part-size", "2", "--ray", "head:6379")

Lose = Callable[..., None]


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lose:
    """Make a cluster that loses machines after a part, so often, and has none left then or some."""
    write_scenes(tmp_path / "photos", 8)
    monkeypatch.setattr(batch_run, "cluster_ray", lambda _: no_ray())

    def make(times: int, *, has_others: bool) -> None:
        losses = iter(range(times))

        def pools(*_: object) -> Pools:
            if not has_others and next(losses, None) is None:
                raise RefusedError("--ray: the cluster has no CPU.")
            return Pools(1, 1, 1, 0)

        def watched(tables: Iterator[pa.Table], _: object) -> Iterator[pa.Table]:
            yield next(tables)
            if not has_others or next(losses, None) is not None:
                raise MachinesLostError("The cluster has lost machines.")
            yield from tables

        monkeypatch.setattr(batch_run, "cluster_pools", pools)
        monkeypatch.setattr(batch_run, "watched", watched)

    return make


def test_a_run_begins_anew_behind_the_last_whole_part(
    lose: Lose, batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(2, has_others=True)
    assert batch(*WORDS) == DONE
    said = capsys.readouterr().err
    assert said.count("The cluster has lost machines. It goes on with those that are left.") == 2
    assert [f"{count} parts are done already" in said for count in (1, 2, 3)] == [True, True, False]
    assert [row["path"] for row in rows_of(tmp_path / "found")] == [
        f"photos/{number:03d}.png" for number in range(8)
    ]


def test_a_run_that_loses_all_machines_says_what_stays(
    lose: Lose, batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(1, has_others=False)
    assert batch(*WORDS) == FAILED
    said = capsys.readouterr().err
    assert "--ray: the cluster has no CPU." in said
    assert "What is done stays; the same command goes on from there." in said
    assert len(list((tmp_path / "found").glob("part-*.parquet"))) == 1
