"""Disks that are full or cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running_service import RunningService

from fault_clients import classify

FULL_AND_READ_ONLY = """
set -e
mount -t tmpfs -o size=64k none /tmp
cat /dev/zero > /tmp/filler 2> /dev/null || true
mount -o remount,bind,ro /
exec "$@"
"""


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
