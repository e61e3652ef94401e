from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from model.config import TRAINED_TASKS
from service import cli
from service.processes.environment import KEPT_MEMORY, SPIN_COUNT

ARGUMENTS = ["classify", "--model", "demo", "--weights", "demo", "--data", "demo", "--limit", "3"]


class ReplacedError(Exception):
    """Stands for the end of this process's program."""


@pytest.fixture
def replaced_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that the process is replaced by."""
    command: list[str] = []

    def execv(path: str, arguments: list[str]) -> None:
        assert path == arguments[0]
        command.extend(arguments)
        raise ReplacedError

    monkeypatch.setattr(os, "execv", execv)
    return command


def test_evaluate_becomes_a_process_of_the_models_with_the_same_arguments(
    replaced_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["overlock", "evaluate", *ARGUMENTS])
    with pytest.raises(ReplacedError):
        cli.main()
    assert replaced_by == [sys.executable, "-P", "-m", "service.commands.evaluate", *ARGUMENTS]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["overlock", *words])
    with pytest.raises(ReplacedError):
        cli.main()


def test_download_becomes_a_process_of_the_models_that_knows_the_folder(
    replaced_by: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERLOCK_CACHE_DIR", str(tmp_path))
    run(monkeypatch, "download", "overlock_t", "--from", "x.pth")
    words = ["overlock_t", "--from", "x.pth", "--cache-dir", str(tmp_path)]
    assert replaced_by == [sys.executable, "-P", "-m", "service.commands.download", *words]
    replaced_by.clear()
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "download", "overlock_t", "--cache-dir", "here")
    assert replaced_by[-1] == str(tmp_path / "here")


def test_an_evaluation_finds_pretrained_weights_where_the_service_keeps_them(
    replaced_by: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERLOCK_CACHE_DIR", str(tmp_path))
    words = ["evaluate", "classify", "--model", "overlock_t", "--weights", "pretrained"]
    run(monkeypatch, *words, "--data", "x")
    assert replaced_by[-2:] == ["--cache-dir", str(tmp_path)]
    replaced_by.clear()
    run(monkeypatch, *words, "--data", "x", "--cache-dir", "here")
    assert replaced_by[-2:] == ["--cache-dir", "here"]


@pytest.mark.parametrize("name", ["overlock_q", "cascade_mask_rcnn_overlock_t"])
def test_what_was_not_published_is_refused_before_there_is_another_process(
    replaced_by: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["overlock", "download", name])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "There are pretrained weights for overlock_xt" in capsys.readouterr().err
    assert replaced_by == []


@pytest.mark.parametrize(("given", "want"), [(None, SPIN_COUNT["GOMP_SPINCOUNT"]), ("7", "7")])
def test_the_threads_of_an_evaluation_yield_unless_the_caller_says_otherwise(
    replaced_by: list[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    want: str,
) -> None:
    for name in KEPT_MEMORY:
        monkeypatch.setenv(name, "as it was")
    # Set before it is deleted, so that the fixture also takes back what the command sets.
    monkeypatch.setenv("GOMP_SPINCOUNT", given or "")
    if given is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(sys, "argv", ["overlock", "evaluate", *ARGUMENTS])
    with pytest.raises(ReplacedError):
        cli.main()
    assert os.environ["GOMP_SPINCOUNT"] == want


def test_a_wrong_option_is_refused_before_there_is_another_process(
    replaced_by: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["overlock", "evaluate", *ARGUMENTS, "--speed", "9"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "overlock evaluate: error: unrecognized arguments: --speed 9" in message
    assert message.startswith("usage: overlock evaluate")
    assert replaced_by == []


def help_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["overlock", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    return capsys.readouterr().out


def test_help_lists_the_commands_and_the_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(monkeypatch, capsys, "--help")
    for name, (_, purpose) in cli.COMMANDS.items():
        assert f"    {name:<9} {purpose}" in text
    assert re.findall(r"^  (\d+) ", text, re.MULTILINE) == ["0", "1", "2", "130", "141", "143"]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    "words",
    [(name,) for name in cli.COMMANDS] + [("predict", task) for task in TRAINED_TASKS],
    ids=" ".join,
)
def test_every_command_says_what_it_takes(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(monkeypatch, capsys, *words, "--help")
    assert text.startswith(f"usage: overlock {' '.join(words)} ")
    assert "positional arguments:" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_version_is_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.cli.commit", lambda: "0123456789ab-dirty")
    expected = f"overlock-service {version('overlock-service')} (commit 0123456789ab-dirty)\n"
    assert help_of(monkeypatch, capsys, "--version") == expected
    monkeypatch.setattr("service.cli.commit", lambda: None)
    assert help_of(monkeypatch, capsys, "--version") == expected.split(" (")[0] + "\n"


def test_without_a_command_the_help_is_the_complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["overlock"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "examples:" in capsys.readouterr().err


def test_no_command_line_waits_for_torch(tmp_path: Path) -> None:
    commands = [["--help"], ["models"], *([name, "--help"] for name in cli.COMMANDS)]
    code = f"""
import sys; from service import cli
for words in {commands}:
    sys.argv = ["overlock", *words]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, words
    assert "torch" not in sys.modules, words
sys.exit(7)  # no command has ended this process or become another one
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert done.returncode == 7


@pytest.mark.parametrize("name", ["download", "evaluate", "predict"])
def test_a_process_with_torch_can_be_interrupted_before_it_loads_it(
    name: str, tmp_path: Path
) -> None:
    code = (
        f"import sys, service.commands.{name}.__main__\n"
        "sys.exit('torch' in sys.modules or not sys.modules.get('service.commands.console.exits'))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_the_first_help_needs_no_library_at_all(tmp_path: Path) -> None:
    heavy = ("torch", "numpy", "pydantic", "httpx", "PIL", "cv2", "fastapi")
    code = f"""
import sys; from service import cli
sys.argv = ["overlock", "--help"]
try:
    cli.main()
finally:
    assert not [name for name in {heavy} if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert done.returncode == 0
