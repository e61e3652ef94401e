"""Ctrl-C in the middle of a run: one line says how much is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.commands.batch import folder as batch_folder
from service.commands.batch import run as batch_run
from service.commands.console.exits import RefusedError
from support.batch_runs import Batch, failing_after, pipeline_here, write_scenes

Stop = Callable[[], str]
"""Runs the command until it is interrupted; returns what it has said."""

WORDS = ("classify", "photos", "--output", "found", "--part-size", "4", "--batch-size", "2")


@pytest.fixture
def stop(batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stop:
    write_scenes(tmp_path / "photos", 10)

    def run() -> str:
        with pytest.raises(KeyboardInterrupt):
            batch(*WORDS)
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(("tables", "done"), [(0, 0), (2, 8)])
def test_ctrl_c_says_how_much_is_done(
    tables: int, done: int, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "run_pipeline", failing_after(tables, KeyboardInterrupt()))
        said = stop().splitlines()
    assert said[-1] == (
        f"overlock batch: Stopped with {done} of 10 images done; the same command continues it."
    )
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "run_pipeline", failing_after(0, KeyboardInterrupt()))
        assert f"Stopped with {done} of 10 images done" in stop()


def test_a_part_that_was_just_named_is_counted(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = batch_folder._LocalFolder.writing

    @contextmanager
    def interrupted(folder: batch_folder._LocalFolder, name: str) -> Iterator[Path]:
        with writing(folder, name) as path:
            yield path
        if name.startswith("part-"):
            raise KeyboardInterrupt

    monkeypatch.setattr(batch_run, "run_pipeline", pipeline_here)
    monkeypatch.setattr(batch_folder._LocalFolder, "writing", interrupted)
    assert "Stopped with 4 of 10 images done" in stop()


def test_a_folder_that_cannot_be_listed_does_not_keep_a_run_alive(
    stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(_: object) -> list[str]:
        raise RefusedError("The output folder cannot be used.")

    def run(*_: object) -> Iterator[object]:
        monkeypatch.setattr(batch_folder._LocalFolder, "names", vanished)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(batch_run, "run_pipeline", run)
    assert "Stopped" not in stop()
