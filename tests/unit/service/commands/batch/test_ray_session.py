from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from service.commands.batch import ray_session
from service.commands.batch.ray_session import cluster_ray
from service.commands.console.exits import RefusedError


def test_a_cluster_that_is_not_there_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        pytest.raises(RefusedError, match=rf"there is no Ray at 127\.0\.0\.1:{port}: .*refused"),
        cluster_ray(f"127.0.0.1:{port}"),
    ):
        pass


def test_ray_client_s_addresses_are_refused() -> None:
    with (
        pytest.raises(RefusedError, match="give the cluster's own"),
        cluster_ray("ray://head:10001"),
    ):
        pass


def test_folders_of_killed_runs_are_removed_and_those_in_use_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session, "_short_folder", lambda: str(tmp_path))
    for name in ("ov-batch-killed", "ov-batch-used", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with (tmp_path / "ov-batch-used" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ray_session._sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "ov-batch-used"]


def test_a_long_temporary_folder_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/var/" + "x" * 40)
    assert ray_session._short_folder() == "/tmp"
