from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.console import launcher

RUN = "import runpy, sys; sys.argv = ['overlock', '--version']; runpy.run_path({path!r})['main']()"


def launched(pythonpath: Path | None) -> subprocess.CompletedProcess[str]:
    """Run a copy of the launcher that is no part of a package, as the console script does."""
    own = os.environ.get("PYTHONPATH", "")
    before = f"{pythonpath}{os.pathsep}" if pythonpath else ""
    return subprocess.run(
        [sys.executable, "-P", "-c", RUN.format(path=launcher.__file__)],
        env=os.environ | {"PYTHONPATH": before + own},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["service/__init__.py", "model/__init__.py", "model.py"])
def test_a_package_that_hides_ours_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    done = launched(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path / name.removesuffix('/__init__.py')} has the name of a pack" in done.stderr
    assert f"take {tmp_path} off PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_folders_that_hide_nothing_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()  # no package
    done = launched(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("overlock-service")
