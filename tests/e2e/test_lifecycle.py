from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.scenes.scenes import draw_scene
from support.running_service import CLIENT, RunningService
from support.scene_files import png


def post_scene(service: RunningService, seed: int) -> int:
    answer = CLIENT.post(
        f"{service.url}/v1/classify",
        content=png(draw_scene(seed).image),
        headers={"Content-Type": "image/png"},
        timeout=150,
    )
    return answer.status_code


def overlock(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OVERLOCK_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("overlock")), *arguments],
        env=environment | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_start_says_what_is_served_and_where_to_look(demo: RunningService) -> None:
    assert "is ready after" in demo.log
    assert "demo (demo weights, 10 classes) on cpu" in demo.log
    assert f"{demo.url}/docs" in demo.log


def test_compiled_kernels_are_kept_and_interrupting_stops_quickly_and_quietly(
    tmp_path: Path,
) -> None:
    settings = {"cache_dir": str(tmp_path / "cache"), "log_format": "json", "segment_model": "off"}
    with RunningService(**settings) as service:
        assert list((tmp_path / "cache" / "kernels").glob("overlock-*.so"))
        assert post_scene(service, 1) == 200
        started = time.monotonic()
        assert service.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 2
        assert "Traceback" not in service.log


def test_what_killed_processes_leave_behind_is_gone_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with RunningService(segment_model="off") as killed:
        children = killed.children("service.engine.process") + killed.children(
            "service.web.process"
        )
        for pid in (killed.process.pid, *children):  # so that none can clean up
            os.kill(pid, signal.SIGSTOP)
        for pid in (killed.process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        killed.process.wait()
    (left_behind,) = tmp_path.glob("overlock-*")
    with RunningService(segment_model="off") as service:
        assert not left_behind.exists()
        assert post_scene(service, 1) == 200
        with RunningService(segment_model="off"):  # which leaves the living alone
            assert post_scene(service, 2) == 200
    assert list(tmp_path.glob("overlock-*")) == []


def test_a_misspelt_setting_stops_the_start_with_a_hint() -> None:
    result = overlock("serve", OVERLOCK_MAX_BATCHSIZE="3")
    assert result.returncode == 2
    assert "Is it OVERLOCK_MAX_BATCH_SIZE?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_host_that_is_none_is_said_in_words() -> None:
    result = overlock("serve", "--host", "nowhere.invalid")
    assert result.returncode == 2
    assert "cannot listen on nowhere.invalid, port 8000: " in result.stderr
    assert "Unknown error" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_said_in_words(demo: RunningService) -> None:
    result = overlock("serve", "--port", str(demo.port))
    assert result.returncode == 2
    assert f"--port): cannot listen on 127.0.0.1, port {demo.port}: Address" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"WEIGHTS": "/nowhere/weights.pth"}, "There is no weights file /nowhere/weights.pth"),
        ({"LABELS": "/nowhere/labels.txt"}, "labels file /nowhere/labels.txt cannot be read"),
    ],
)
def test_weights_that_cannot_be_read_stop_the_start_with_the_reason(
    settings: dict[str, str], says: str
) -> None:
    variables = {f"OVERLOCK_CLASSIFY_{name}": value for name, value in settings.items()}
    result = overlock("serve", "--port", "0", **variables)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_device_that_is_not_there_stops_the_start_with_the_reason() -> None:
    result = overlock("serve", "--port", "0", "--devices", "cuda:63")
    assert result.returncode == 2
    assert "cuda:63" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_and_version_read_well() -> None:
    assert "--classify-model" in overlock("serve", "--help").stdout
    assert overlock("--version").stdout.strip()
