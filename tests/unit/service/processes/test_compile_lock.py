"""Of processes that start together one compiles; its death, or a lack of locks, stops none."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.processes import compile_lock
from service.processes.compile_lock import LOCK_NAME, filled_once

PROGRAM = """
import logging, sys
from pathlib import Path
from service.processes.compile_lock import filled_once

logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
with filled_once(Path(sys.argv[1])):
    print("compiles", flush=True)
    sys.stdin.readline()
print("ends", flush=True)
"""


class Compiler:
    """A process that fills a folder until it is told that it is done."""

    def __init__(self, folder: Path) -> None:
        self.waits = f"Another process compiles into {folder}; waiting for it."
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self.says() == "ends"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def compilers(tmp_path: Path) -> Iterator[Iterator[Compiler]]:
    """As many as are asked for; all are gone in the end."""
    started: list[Compiler] = []

    def each() -> Iterator[Compiler]:
        while True:
            started.append(Compiler(tmp_path))
            yield started[-1]

    yield each()
    for compiler in started:
        compiler.kill()


@pytest.mark.slow
def test_one_compiles_and_the_others_find_the_folder_full(compilers: Iterator[Compiler]) -> None:
    first = next(compilers)
    assert first.says() == "compiles"
    second = next(compilers)
    assert second.says() == second.waits
    first.finish()
    assert second.says() == "compiles"
    # Nobody waits for one that has found the folder full.
    assert next(compilers).says() == "compiles"


@pytest.mark.slow
def test_when_the_one_that_compiles_is_killed_the_next_goes_on(
    compilers: Iterator[Compiler],
) -> None:
    first = next(compilers)
    assert first.says() == "compiles"
    second = next(compilers)
    assert second.says() == second.waits
    first.kill()
    assert second.says() == "compiles"
    third = next(compilers)
    assert third.says() == third.waits


def is_locked(folder: Path) -> bool:
    with (folder / LOCK_NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_failure_leaves_the_folder_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no compiler"), filled_once(tmp_path):
        raise ValueError("no compiler")
    with filled_once(tmp_path):
        assert is_locked(tmp_path)
    with filled_once(tmp_path):
        assert not is_locked(tmp_path)


def test_one_that_seems_stuck_is_not_waited_for_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compile_lock, "PATIENCE_SECONDS", -1.0)
    with filled_once(tmp_path), filled_once(tmp_path):
        assert "has not filled" in caplog.text


def test_without_locks_every_process_compiles_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with filled_once(tmp_path), filled_once(tmp_path):
        assert caplog.text.count("cannot be locked") == 2
    with filled_once(tmp_path / "missing"):
        assert caplog.text.count("cannot be locked") == 3


def test_a_process_that_compiles_nothing_locks_nothing() -> None:
    with filled_once(None):
        pass
