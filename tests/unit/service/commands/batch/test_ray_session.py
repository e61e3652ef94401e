from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from service.commands.batch import ray_session
from service.commands.batch.ray_session import cluster_ray, local_ray
from service.commands.console.exits import RefusedError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))


def test_a_cluster_that_is_not_there_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        pytest.raises(RefusedError, match=rf"there is no Ray at 127\.0\.0\.1:{port}: .*refused"),
        cluster_ray(f"127.0.0.1:{port}"),
    ):
        pass


def test_auto_leads_to_no_cluster_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RefusedError, match=f"there is no Ray at {address}"), cluster_ray("auto"):
        pass
    said = capsys.readouterr().err
    assert said == f"overlock batch: Connecting to the Ray cluster at {address}.\n"


def test_ray_client_s_addresses_are_refused() -> None:
    with (
        pytest.raises(RefusedError, match="give the cluster's own"),
        cluster_ray("ray://head:10001"),
    ):
        pass


@pytest.mark.parametrize("moment", ["init", "shutdown"])
def test_ctrl_c_leaves_no_half_of_a_ray(
    moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    class FakeRay:
        def init(self, **_: object) -> None:
            self._do("init")

        def shutdown(self) -> None:
            self._do("shutdown")

        def _do(self, name: str) -> None:
            if name == moment:
                signal.raise_signal(signal.SIGINT)
            done.append(name)

    monkeypatch.setattr(ray_session, "_imported", FakeRay)
    monkeypatch.setattr(ray_session, "_short_folder", lambda: str(tmp_path))
    with pytest.raises(KeyboardInterrupt), local_ray(cpus=1, gpus=0, store_bytes=2**27):
        done.append("run")
    assert done == ["init", *(["run"] if moment == "shutdown" else []), "shutdown"]
    assert not list(tmp_path.iterdir())


def test_a_long_temporary_folder_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/var/" + "x" * 40)
    assert ray_session._short_folder() == "/tmp"
