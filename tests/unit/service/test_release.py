"""The commit of the code, wherever it was installed from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from service import release


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be code that lies elsewhere, in a folder named ``service``."""
    folder = tmp_path / "service"
    folder.mkdir()
    monkeypatch.setattr(release, "__file__", str(folder / "release.py"))
    monkeypatch.setattr(release, "BUILT_FROM", folder / "commit.txt")
    return folder


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def noted(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.setattr(release, "distribution", lambda _: Mock(read_text=lambda _: text))


def test_a_built_image_has_it_in_a_file(package: Path) -> None:
    (package / "commit.txt").write_text("0123456789abcdef\n")
    assert release.commit() == "0123456789ab"


def test_an_image_built_without_it_knows_none(package: Path) -> None:
    (package / "commit.txt").write_text("\n")
    assert release.commit() is None


def test_a_checkout_asks_git_and_says_when_it_has_changes(package: Path) -> None:
    root = package.parent
    git(root, "init", "--quiet")
    (root / "file").write_text("one")
    git(root, "add", "file")
    git(root, "commit", "--quiet", "--message", "One")
    head = git(root, "rev-parse", "HEAD")[:12]
    assert release.commit() == head
    (root / "file").write_text("two")
    assert release.commit() == f"{head}-dirty"


def test_a_tag_does_not_hide_it(package: Path) -> None:
    root = package.parent
    git(root, "init", "--quiet")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "One")
    git(root, "tag", "--annotate", "v1", "--message", "v1")
    assert release.commit() == git(root, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"url": "u", "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}}), "ab" * 6),
        (json.dumps({"url": "file:///x", "dir_info": {"editable": True}}), None),
        (None, None),
    ],
)
def test_an_installation_from_a_repository_was_noted(
    package: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, found: str | None
) -> None:
    noted(monkeypatch, text)
    assert release.commit() == found
