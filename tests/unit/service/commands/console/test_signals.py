"""Ctrl-C and SIGTERM at moments of a command's start that are stated, and so not timed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.console import launcher
from service.commands.console.exits import run_to_exit
from service.commands.console.signals import deferring_signals, hold_signals

ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]

SIGNALLING_IMPORT = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNALLED_AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""

PREDICT = ("predict", "classify", "photo.png")
BATCH = ("batch", "classify", "photos", "--output", "found")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize(
    ("words", "module"),
    [
        (PREDICT, "service.cli"),
        (PREDICT, "service.commands.predict.command"),
        (PREDICT, "runpy"),  # of python -m, in the process that replaces the first
        (PREDICT, "torch"),
        (BATCH, "runpy"),
        (BATCH, "pyarrow"),
        (("evaluate", "classify", "--data", "photos"), "runpy"),
        (("download", "overlock_xt"), "runpy"),
    ],
)
def test_a_command_that_still_imports_ends_quietly(
    words: tuple[str, ...], module: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNALLING_IMPORT)
    (tmp_path / "photo.png").write_bytes(b"")
    root = str(Path(launcher.__file__).parents[3])
    variables = {
        "PYTHONPATH": os.pathsep.join((str(tmp_path), root)),
        "SIGNALLED_AT": module,
        "SIGNAL": str(int(number)),
    }
    done = subprocess.run(
        [sys.executable, "-P", launcher.__file__, *words],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_signal_in_a_command_ends_it_in_order(number: signal.Signals, code: int) -> None:
    ended = []

    def command() -> int:
        try:
            signal.raise_signal(number)
        finally:
            ended.append(True)
        return 0

    with pytest.raises(SystemExit) as end:
        run_to_exit(command)
    assert (end.value.code, ended) == (code, [True])


def test_sigterm_keeps_its_code_where_a_library_replaces_the_exception() -> None:
    def command() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # as Ray does
        return 0

    with pytest.raises(SystemExit) as end:
        run_to_exit(command)
    assert end.value.code == 143


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def command() -> int:
        signal.raise_signal(signal.SIGINT)
        return 7

    with pytest.raises(SystemExit) as end:
        run_to_exit(command)
    assert end.value.code == 7
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_held_signal_comes_when_the_command_begins() -> None:
    hold_signals()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run_to_exit(lambda: 0)
    assert end.value.code == 143


def test_a_deferred_signal_comes_after_the_lines() -> None:
    done = []

    def lines() -> None:
        with deferring_signals():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        lines()
    assert done


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_signal_while_the_interpreter_ends_is_quiet(number: signal.Signals, code: int) -> None:
    script = (
        "import atexit, signal; from service.commands.console.exits import run_to_exit\n"
        f"atexit.register(signal.raise_signal, {int(number)})\n"
        "run_to_exit(lambda: 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
