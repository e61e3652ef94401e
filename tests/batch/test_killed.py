"""``overlock batch`` as users call it, ended from outside in the middle."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from service.commands.batch.actors import local_network
from service.commands.console.exits import TERMINATED
from support.batch_runs import Batch, files_in, write_scenes
from support.command_line import OVERLOCK, environment

IMAGES = 120
PATIENCE_SECONDS = 300.0
"""Ray starts a dozen processes, which takes minutes on a busy machine."""
WORDS = ("classify", "photos", "--output", "found", "--part-size", "12")


pytestmark = pytest.mark.timeout(4 * PATIENCE_SECONDS)


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own."""
    return subprocess.Popen(
        [OVERLOCK, "batch", *words],
        cwd=folder,
        env=environment() | {"OMP_NUM_THREADS": "1", "TMPDIR": "/tmp"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def parts_in(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def wait_for_parts(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Wait until a run has made so many more parts, or has ended."""
    wanted, until = parts_in(folder) + count, time.monotonic() + PATIENCE_SECONDS
    while parts_in(folder) < wanted and process.poll() is None:
        assert time.monotonic() < until, "no part came"
        time.sleep(0.05)


def processes_of(process: subprocess.Popen[bytes]) -> list[str]:
    """Return the processes of a command's session, and those that name its process."""
    listed = subprocess.run(["ps", "-eo", "sid,args"], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()[1:]]
    # Those that have ended wait for the machine's first process to take note of it.
    lines = [line for line in lines if not line[1].endswith("<defunct>")]
    return [line[1] for line in lines if line[0] == str(process.pid)]


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
            assert not processes_of(process)
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
