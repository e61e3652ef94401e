"""Disks that are full or cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from support.fault_clients import classify
from support.running_service import RunningService

FULL_AND_READ_ONLY = """
set -e
mount -t tmpfs -o size=64k none /tmp
cat /dev/zero > /tmp/filler 2> /dev/null || true
mount -o remount,bind,ro /
exec "$@"
"""


def fill(path: Path) -> None:
    """Write a file until there is no space left for more."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def may_mount() -> bool:
    probe = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /tmp && mount -o remount,bind,ro /"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="mounting needs privileges that this machine denies")
@pytest.mark.skipif(
    Path(sys.prefix).is_relative_to("/tmp"), reason="what is installed in /tmp would be hidden"
)
def test_a_full_temporary_folder_and_a_read_only_disk_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    prefix = ("unshare", "-m", "sh", "-c", FULL_AND_READ_ONLY, "sh")
    with RunningService(prefix, segment_model="off", default_timeout_seconds=60) as service:
        assert classify(service).status_code == 200
        (engine,) = service.children("service.engine.process")
        os.kill(engine, signal.SIGKILL)
        assert classify(service).status_code == 200
        assert service.metric("overlock_engine_restarts_total") == 1


@pytest.mark.skipif(not may_mount(), reason="mounting needs privileges that this machine denies")
def test_a_full_runtime_folder_matters_to_no_process_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    small_disk = f'mount -t tmpfs -o size=2m none {tmp_path} && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", small_disk, "sh")
    with RunningService(prefix, segment_model="off", default_timeout_seconds=60) as service:
        filler = Path(f"/proc/{service.process.pid}/root{tmp_path}/filler")
        fill(filler)
        for path in ("/nowhere", "/v1/models", "/docs", "/metrics"):
            service.get(path)
        assert classify(service, query="?top_k=0").status_code == 422
        assert [classify(service).status_code for _ in range(5)] == [200] * 5
        assert "ended" not in service.log
        (engine,) = service.children("service.engine.process")
        os.kill(engine, signal.SIGKILL)
        with ThreadPoolExecutor(1) as client:
            waiting = client.submit(classify, service)
            service.wait_for(lambda: "No space left on device" in service.log)
            filler.unlink()
            assert waiting.result().status_code == 200


def test_a_log_that_cannot_be_written_does_not_matter() -> None:
    prefix = ("sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh")
    service = RunningService(prefix, segment_model="off", default_timeout_seconds=60)
    try:
        service.wait_for(lambda: answers_ready(service))
        (engine,) = service.children("service.engine.process")
        os.kill(engine, signal.SIGKILL)  # which is logged
        assert classify(service).status_code == 200
    finally:
        service.__exit__()


def answers_ready(service: RunningService) -> bool:
    try:
        return service.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
