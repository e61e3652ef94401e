"""The lock files agree with pyproject.toml, with torch and with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.documents import text_of
from support.locks import FOLDER, TORCH, locked, normalised

PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = sorted(path.name for path in FOLDER.glob("*.lock"))

CASES = {
    "runtime.lock": [*PROJECT["dependencies"], *OPTIONAL["otel"]],
    "extras.lock": [each for name in OPTIONAL if name != "dev" for each in OPTIONAL[name]],
    "development.lock": [*PROJECT["dependencies"], *OPTIONAL["dev"]],
}


def unsatisfied(requirements: list[str], versions: dict[str, str]) -> list[str]:
    """Return the requirements that apply here and that no version satisfies."""
    read = [Requirement(each) for each in requirements]
    return [
        str(each)
        for each in read
        if (each.marker is None or each.marker.evaluate({"extra": ""}))
        and not each.specifier.contains(versions.get(normalised(each.name), "0"))
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes(name: str) -> None:
    packages = re.split(r"^(?=\w)", (FOLDER / name).read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert packages
    assert [each for each in packages if "--hash=sha256:" not in each] == []


@pytest.mark.parametrize("name", LOCKS)
def test_torch_is_in_no_lock(name: str) -> None:
    assert "torch" not in locked(name)


@pytest.mark.parametrize("name", CASES)
def test_a_lock_has_what_pyproject_asks_for(name: str) -> None:
    asked = [each for each in CASES[name] if not each.startswith(("torch", PROJECT["name"]))]
    assert unsatisfied(asked, locked(name)) == []


def test_a_version_that_pyproject_refuses_would_be_found() -> None:
    versions = locked("runtime.lock")
    assert unsatisfied(["numpy>=99"], versions) == ["numpy>=99"]
    assert unsatisfied(["unheard-of"], {}) == []
    assert unsatisfied(["unheard-of>=1"], versions) == ["unheard-of>=1"]


def test_torch_is_one_that_pyproject_allows() -> None:
    asked = [each for each in PROJECT["dependencies"] if each.startswith("torch")]
    assert unsatisfied(asked, {"torch": TORCH}) == []


def test_what_torch_takes_by_range_is_pinned() -> None:
    taken = [each for each in requires("torch") or [] if "extra ==" not in each]
    assert taken
    assert unsatisfied(taken, locked("runtime.lock") | locked("cuda.lock")) == []


def test_the_locks_agree() -> None:
    development = locked("development.lock")
    runtime, extras = locked("runtime.lock"), locked("extras.lock")
    assert runtime.items() <= development.items()
    assert runtime.items() <= extras.items()
    # No test needs all of them: not Ray's dashboard, nor a GPU.
    for other in (extras, locked("cuda.lock")):
        shared = other.keys() & development.keys()
        assert {name: other[name] for name in shared} == {
            name: development[name] for name in shared
        }


def test_a_service_is_started_without_the_tests_packages() -> None:
    extra = {"mypy", "pyarrow", "pytest", "ray", "triton"} & locked("runtime.lock").keys()
    assert extra == set()
    assert re.search(r"^serve: \$\(RUNTIME\)$", text_of("Makefile"), re.MULTILINE)


@pytest.fixture
def installed_with(tmp_path: Path) -> Callable[[str], list[str]]:
    """Run install_torch.sh with a pip that only notes its calls, and return those after torch's."""

    def run(torch_requires: str) -> list[str]:
        notes, pip = tmp_path / "notes", tmp_path / "pip"
        shown = f"Name: torch\\nRequires: {torch_requires}\\nRequired-by: overlock-service\\n"
        pip.write_text(
            "#!/bin/sh\ncase $* in\n"
            f'    *--verbose*show*) printf "{shown}" ;;\n'
            f'    *) echo "$*" >> {notes} ;;\nesac\n'
        )
        pip.chmod(0o755)
        subprocess.run([FOLDER / "install_torch.sh", pip, "--quiet"], check=True, env=os.environ)
        first, *others = notes.read_text().splitlines()
        assert first == f"--quiet install --no-deps --requirement {FOLDER}/torch.txt"
        return others

    return run


@pytest.mark.slow
def test_pip_shows_what_torch_requires_when_it_is_to_be_quiet() -> None:
    (words,) = re.findall(r'requires=\$\("\$@" (.*?) \|', (FOLDER / "install_torch.sh").read_text())
    command = [sys.executable, "-m", "pip", "--quiet", *words.split()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^Requires: .*sympy", shown, re.MULTILINE)


def test_a_cpu_build_needs_no_more(installed_with: Callable[[str], list[str]]) -> None:
    assert installed_with("filelock, fsspec, jinja2") == []


def test_the_cuda_build_gets_its_packages_by_their_hashes(
    installed_with: Callable[[str], list[str]],
) -> None:
    assert installed_with("filelock, nvidia-cudnn-cu13, triton") == [
        f"--quiet install --no-deps --require-hashes --requirement {FOLDER}/cuda.lock"
    ]


def test_another_cudas_build_gets_what_it_states_itself(
    installed_with: Callable[[str], list[str]],
) -> None:
    assert installed_with("filelock, nvidia-cudnn-cu12, triton") == [
        f"--quiet install --requirement {FOLDER}/torch.txt"
    ]


def test_the_licence_of_everything_that_ships_is_named() -> None:
    listed = {
        normalised(name): version
        for name, version in re.findall(
            r"^\| (\S+) \| (\S+) \|", text_of("THIRD_PARTY_LICENSES.md"), re.MULTILINE
        )
    }
    ships = locked("extras.lock") | locked("cuda.lock")
    assert {name: listed.get(name) for name in ships} == ships, "run make licences"
    assert listed["torch"].partition("+")[0] == TORCH
