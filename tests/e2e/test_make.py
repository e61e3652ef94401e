"""The Makefile's variables."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from support.documents import ROOT

SCRIPT = re.compile(r"^\t(.*)\$\(BIN\)/python (-m (?!pip)\S+|\S+\.py)", re.MULTILINE)
SCRIPTS = sorted(set(SCRIPT.findall((ROOT / "Makefile").read_text("utf-8"))))


@pytest.mark.parametrize(("before", "script"), SCRIPTS)
def test_every_script_finds_what_it_imports(before: str, script: str) -> None:
    # A module is searched for in the current folder, and what a script imports in the script's.
    module = script.removeprefix("-m ")
    if module == script:
        imported = f"import runpy; runpy.run_path({script!r}, run_name='imported')"
        folder = (ROOT / script).parent
    else:
        is_package = (ROOT / "/".join(module.split(".")) / "__main__.py").exists()
        imported = f"import {module}" + (".__main__" if is_package else "")
        folder = ROOT
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {imported}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", f"{before} {sys.executable} -P -c {shlex.quote(code)}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Print what make would do, as if everything was installed."""
    command = ["make", "--dry-run", "--assume-old=.venv/.ready", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("given", "meant"), [("model", "MODEL"), ("MODLE", "MODEL"), ("Weight", "WEIGHTS")]
)
def test_a_misspelt_variable_stops_and_names_the_right_one(given: str, meant: str) -> None:
    done = make("serve", f"{given}=overlock_t")
    assert done.returncode == 2
    assert f"There is no variable {given}; {meant} may be meant." in done.stderr


def test_a_variable_like_no_other_stops_and_names_all() -> None:
    done = make("serve", "xyz=1")
    assert done.returncode == 2
    assert "There is no variable xyz; there are CUDA ENGINE EXTRAS MODEL " in done.stderr


def test_every_variable_is_known() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    names = re.findall(r"^([A-Z_]+) *\?=", makefile, re.MULTILINE)
    assert set(re.findall(r"^VARIABLES := (.*)$", makefile, re.MULTILINE)[0].split()) == set(names)
    done = make("serve", *(f"{name}=x" for name in names if name not in {"PYTHON", "VENV"}))
    assert done.returncode == 0, done.stderr
    assert "OVERLOCK_CLASSIFY_MODEL=x" in done.stdout
