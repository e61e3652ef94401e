"""The wheel that pyproject.toml describes holds the whole program, and its script starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from service.release import release

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel and unpack it, as an installation that is not editable does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_it_holds_every_file_of_the_packages(installed: Path) -> None:
    missing = [
        path.relative_to(ROOT).as_posix()
        for package in ("model", "service")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "prebuilt" not in path.parts
        if not (installed / path.relative_to(ROOT)).is_file()
    ]
    assert missing == []


def test_its_script_runs_the_command_line(installed: Path) -> None:
    (script,) = installed.glob("*.data/scripts/overlock")
    # An installer puts the interpreter's path in the place of this line.
    assert script.read_text("utf-8").startswith("#!python\n")
    done = subprocess.run(
        [sys.executable, script, "--version"],
        cwd=installed,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["overlock-service", release()]


def test_its_file_in_the_tree_can_be_executed() -> None:
    assert os.access(ROOT / "service/commands/console/launcher.py", os.X_OK)
