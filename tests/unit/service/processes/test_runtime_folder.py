from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from service.processes.runtime_folder import MARK, RuntimeFolder, runtime_parent
from service.settings import SettingsError

HOLD = (
    "import sys; from pathlib import Path;"
    "from service.processes.runtime_folder import RuntimeFolder;"
    "folder = RuntimeFolder(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read();"
    "folder.leave()"
)


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the folder until it is killed, or its input is closed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_is_private_and_gone_when_the_last_one_leaves(tmp_path: Path) -> None:
    first = RuntimeFolder.create(tmp_path)
    assert first.path.stat().st_mode & 0o777 == 0o700
    (first.path / "metrics").mkdir()
    second = RuntimeFolder(first.path)
    first.leave()
    assert second.path.exists()
    second.leave()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_service_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    folder = RuntimeFolder.create(tmp_path)
    path = folder.path
    with held_elsewhere(path) as process:
        folder.leave()
        assert path.exists()
        process.kill()
        process.wait()
    assert path.exists()
    following = RuntimeFolder.create(tmp_path)
    assert list(tmp_path.iterdir()) == [following.path]
    following.leave()


def test_a_running_service_keeps_its_folder_when_another_starts(tmp_path: Path) -> None:
    living = RuntimeFolder.create(tmp_path)
    with held_elsewhere(living.path) as process:
        RuntimeFolder.create(tmp_path).leave()
        assert living.path.exists()
        living.leave()  # its supervisor is gone, a child is not
        RuntimeFolder.create(tmp_path).leave()
        assert living.path.exists()
        process.communicate()
    assert not living.path.exists()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "overlock-training").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / MARK).touch()
    (tmp_path / "overlock-link").symlink_to(tmp_path / "mine")
    RuntimeFolder.create(tmp_path).leave()
    assert {path.name for path in tmp_path.iterdir()} == {
        "overlock-training",
        "mine",
        "overlock-link",
    }
    assert (tmp_path / "mine" / MARK).exists()


@pytest.mark.parametrize(
    ("parent", "needed_bytes", "says"),
    [
        ("none", 0, "No such file"),
        ("", 2**62, f"{2**62} needed"),
        ("x" * 80, 0, "its path is too long for sockets"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_with_the_variable(
    parent: str, needed_bytes: int, says: str
) -> None:
    with TemporaryDirectory() as folder:  # pytest's own are as long as is too long
        with pytest.raises(SettingsError, match=says) as refusal:
            RuntimeFolder.create(Path(folder, parent), needed_bytes)
        assert "TMPDIR" in str(refusal.value)
        assert str(Path(folder, parent)) in str(refusal.value)
        assert list(Path(folder).iterdir()) == []


def test_tmpdir_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")  # tempfile would take another one
    assert runtime_parent() == Path("/nowhere")
