"""Memory of the engine for large photographs, with OverLoCK-T, and of an idle HTTP worker."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model.scenes.scenes import draw_scene
from support.checkpoints import official_state
from support.running_service import CLIENT, RunningService

ENGINE_LIMIT_BYTES = 2_500_000_000
WORKER_LIMIT_BYTES = 150_000_000
HEIGHT, WIDTH = 3464, 4618  # 16 megapixels
TIMEOUT_SECONDS = 110
MODELS = {"segment": "upernet_overlock_t", "detect": "mask_rcnn_overlock_t"}


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A scene of 16 megapixels as a JPEG of the size that a camera makes."""
    small = Image.fromarray(draw_scene(530_000, HEIGHT // 4, WIDTH // 4).image)
    buffer = io.BytesIO()
    small.resize((WIDTH, HEIGHT)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    # The reference's weights: with random ones a detector finds nothing and has no masks to make.
    folder = tmp_path_factory.mktemp("checkpoints")
    settings: dict[str, str] = {}
    for task, name in MODELS.items():
        path = folder / f"{name}.pth"
        torch.save(official_state(name), path)
        settings |= {f"{task}_model": name, f"{task}_weights": str(path)}
    with RunningService(default_timeout_seconds=TIMEOUT_SECONDS, **settings) as running:
        yield running
    for path in folder.iterdir():
        path.unlink()


def status_bytes(pid: int, field: str) -> int:
    """Read one of the kernel's figures of a process; VmHWM is the most that it was resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def ask(service: RunningService, task: str, photo: bytes, accept: str) -> httpx.Response:
    answer = CLIENT.post(
        f"{service.url}/v1/{task}",
        content=photo,
        headers={"Content-Type": "image/jpeg", "Accept": accept},
        timeout=TIMEOUT_SECONDS,
    )
    assert answer.status_code == 200, answer.text
    return answer


def test_an_idle_http_worker_is_small(demo: RunningService) -> None:
    (worker,) = demo.children("service.web.process")
    assert status_bytes(worker, "VmRSS") < WORKER_LIMIT_BYTES


@pytest.mark.timeout(400)
def test_16_megapixels_are_segmented_and_detected_within_2_and_a_half_gigabytes(
    service: RunningService, photo: bytes
) -> None:
    segmented = ask(service, "segment", photo, "image/png")
    with Image.open(io.BytesIO(segmented.content)) as image:
        assert np.asarray(image).shape == (HEIGHT, WIDTH)
    detected = ask(service, "detect", photo, "application/json").json()["detections"]
    assert len(detected) == 100
    assert detected[0]["mask"]["size"] == [HEIGHT, WIDTH]
    (engine,) = service.children("service.engine.process")
    peak_bytes = status_bytes(engine, "VmHWM")
    assert peak_bytes < ENGINE_LIMIT_BYTES
