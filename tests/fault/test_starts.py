"""Starts in foreign folders, and starts that cannot succeed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.command_line import OVERLOCK, environment, overlock
from support.fault_clients import classify
from support.running_service import RunningService

FOREIGN = ("model", "queue", "json", "sitecustomize", "torch", "numpy", "asyncio", "argparse")


@pytest.fixture
def foreign_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules that have the names of ours and of Python's."""
    folder = tmp_path / "foreign"
    (folder / "service").mkdir(parents=True)
    (folder / "service" / "__init__.py").write_text("raise SystemExit('foreign')")
    for name in FOREIGN:
        (folder / f"{name}.py").write_text("raise SystemExit('foreign')")
    monkeypatch.chdir(folder)
    return folder


def test_what_lies_in_the_current_folder_does_not_matter(foreign_folder: Path) -> None:
    with RunningService(segment_model="off", default_timeout_seconds=60) as service:
        assert classify(service).status_code == 200
        assert "foreign" not in service.log
    help_text = overlock("evaluate", "classify", "--help", folder=foreign_folder)
    assert help_text.returncode == 0


def test_as_a_module_too_it_starts_beside_foreign_modules(foreign_folder: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "--version"]
    shutil.rmtree(foreign_folder / "service")  # Python itself would take that one
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("overlock-service"), done.stderr


def test_a_pythonpath_with_another_model_ends_the_start(foreign_folder: Path) -> None:
    pythonpath = f"{foreign_folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for path in foreign_folder.iterdir():
        if path.name != "model.py":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = overlock("serve", variables={"PYTHONPATH": pythonpath})
    assert done.returncode == 2
    assert f"take {foreign_folder} off PYTHONPATH" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def refusal(*words: str, **variables: str) -> str:
    """Return what a start that is refused says."""
    started = time.monotonic()
    done = overlock("serve", "--port", "0", *words, variables=variables)
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert said.splitlines()[0].partition("service")[2].strip().startswith("starting: ")
    assert time.monotonic() - started < 60
    return said


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"PK\x03\x04", "is truncated or damaged"),
        (b"notes", "is no PyTorch checkpoint"),
    ],
)
def test_weights_of_the_wrong_kind_end_the_start_before_anything_is_started(
    tmp_path: Path, contents: bytes, says: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(contents)
    said = refusal("--classify-model", "overlock_t", "--classify-weights", str(path))
    assert f"OVERLOCK_CLASSIFY_WEIGHTS: {path} {says}" in said
    assert len(said.splitlines()) == 2


def test_a_folder_as_weights_and_keys_that_cannot_be_read_end_the_start(tmp_path: Path) -> None:
    said = refusal("--segment-model", "upernet_overlock_t", "--segment-weights", str(tmp_path))
    assert f"OVERLOCK_SEGMENT_WEIGHTS: {tmp_path} is a folder" in said
    said = refusal("--api-keys-file", str(tmp_path))
    assert f"OVERLOCK_API_KEYS_FILE: {tmp_path} cannot be read: Is a directory" in said


def test_labels_that_do_not_fit_and_a_missing_device_end_the_start(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("one\n")
    said = refusal("--classify-labels", str(path), "--segment-model", "off")
    assert f"OVERLOCK_CLASSIFY_LABELS: The labels file {path} has 1 lines" in said
    assert "OVERLOCK_DEVICES: " in refusal("--devices", "cuda:63")


def test_a_temporary_folder_that_is_missing_ends_the_start() -> None:
    said = refusal(TMPDIR="/nowhere")
    assert "cannot be made in /nowhere: No such file" in said
    assert "TMPDIR" in said


def may_mount() -> bool:
    probe = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="mounting needs privileges that this machine denies")
@pytest.mark.parametrize("size", ["4k", "100k", "800k"])
def test_a_runtime_folder_that_is_too_small_ends_the_start(tmp_path: Path, size: str) -> None:
    small_disk = f'mount -t tmpfs -o size={size} none {tmp_path} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", small_disk, "sh", OVERLOCK, "serve", "--port", "0"],
        env=environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"The runtime folder cannot be made in {tmp_path}: " in done.stderr
    assert "Traceback" not in done.stderr
