from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from model.pretrained.assets import PretrainedError
from service.client import UnreachableError
from service.commands.console.exits import RefusedError, run_to_exit
from service.settings import SettingsError


def exit_code(command: Callable[[], int]) -> object:
    with pytest.raises(SystemExit) as end:
        run_to_exit(command)
    return end.value.code


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def test_the_commands_own_code_is_the_exit_code() -> None:
    assert exit_code(lambda: 1) == 1


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("first\nsecond"),
        SettingsError("first\nsecond"),
        UnreachableError("first\nsecond"),
        PretrainedError("first\nsecond"),
        OSError("first\nsecond"),
    ],
)
def test_a_foreseen_error_is_told_in_words(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == 2
    assert capsys.readouterr().err == "overlock: first\noverlock: second\n"


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_what_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_to_exit(lambda: 1 // 0)


@pytest.mark.parametrize("command", ["print('x' * 9999999)", "sys.exit(print('x'))"])
def test_a_reader_that_has_seen_enough_is_no_error(command: str) -> None:
    code = (
        "import os, sys; from service.commands.console.exits import run_to_exit\n"
        "os.close(0); read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        f"run_to_exit(lambda: {command} or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")
