"""``overlock batch`` as users call it, ended from outside in the middle."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
import torch

from service.commands.batch.actors import local_network
from service.commands.console.signals import TERMINATED
from support.batch_runs import (
    PATIENCE_SECONDS,
    Batch,
    files_in,
    processes_of,
    wait_for_parts,
    write_scenes,
)
from support.command_line import OVERLOCK, environment

IMAGES = 240
WORDS = ("classify", "photos", "--output", "found", "--part-size", "12")


pytestmark = pytest.mark.timeout(4 * PATIENCE_SECONDS)


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, with as many threads as compute here."""
    return subprocess.Popen(
        [OVERLOCK, "batch", *words],
        cwd=folder,
        env=environment() | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "TMPDIR": "/tmp"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture
def whole(batch: Batch, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run that was not disturbed, in this process."""
    write_scenes(tmp_path / "photos", IMAGES)
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    assert batch(*WORDS, network=local_network) == 1
    files = files_in(tmp_path / "found")
    (tmp_path / "found").rename(tmp_path / "whole")
    return files


def test_a_killed_and_a_terminated_run_continue_to_the_same_files(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    found = tmp_path / "found"
    for ending in (signal.SIGKILL, signal.SIGTERM):
        process = start(tmp_path, *WORDS)
        wait_for_parts(process, found, 1)
        process.send_signal(ending)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        if ending == signal.SIGTERM:
            assert process.returncode == TERMINATED, said.decode()
            done = 12 * len([*found.glob("part-*.parquet")])
            assert f"Stopped with {done} of {IMAGES + 1} images done; the same" in said.decode()
            assert not processes_of(process.pid)
        assert not (found / "manifest.json").exists()
    process = start(tmp_path, *WORDS)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, said.decode()
    assert files_in(found) == whole, said.decode()
    lines = said.decode().splitlines()
    assert "parts are done already." in said.decode()
    assert lines[-1].endswith("1 failed (invalid-image 1); results in found.")
    assert all(line.startswith("overlock batch: ") for line in lines), said.decode()
    assert not list(Path("/tmp").glob(f"ov-batch-*/{process.pid}"))
