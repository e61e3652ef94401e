"""The Open Inference Protocol on the real service, with two HTTP workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.commands.bench.sample_image import draw_photograph
from support.protocol_calls import binary_images, document, tensors_of
from support.running_service import CLIENT, RunningService

CALLS = 12
IMAGES = 3


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with RunningService(http_workers=2) as service:
        yield service


@pytest.fixture(scope="module")
def photograph() -> bytes:
    return draw_photograph(np.random.default_rng(0))


def statistics(service: RunningService) -> dict[str, Any]:
    (found,) = CLIENT.get(f"{service.url}/v2/models/demo/stats").json()["model_stats"]
    stats: dict[str, Any] = found
    return stats


def test_statistics_are_those_of_all_http_workers(
    service: RunningService, photograph: bytes
) -> None:
    url = f"{service.url}/v2/models/demo/infer"
    before = statistics(service)
    for _ in range(CALLS):
        assert CLIENT.post(url, json=document(*[photograph] * IMAGES)).status_code == 200
    assert CLIENT.post(url, json=document(photograph, b"no image")).status_code == 422
    # Every connection is a new one, which either worker may take.
    for after in [statistics(service) for _ in range(CALLS)]:
        counted = after["inference_count"] - before["inference_count"]
        assert counted in {CALLS * IMAGES, CALLS * IMAGES + 1}, "the good image may have been begun"
        assert after["inference_stats"]["fail"]["count"] == 1
        assert after["execution_count"] > before["execution_count"]
        for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
            assert after["inference_stats"][stage]["ns"] > 0


def test_numbers_are_those_of_v1(service: RunningService, photograph: bytes) -> None:
    want = CLIENT.post(f"{service.url}/v1/classify?logits=true", content=photograph).json()
    body, headers = binary_images(
        photograph, outputs=[{"name": "logits"}, {"name": "class_ids"}, {"name": "scores"}]
    )
    answer = CLIENT.post(f"{service.url}/v2/models/demo/infer", content=body, headers=headers)
    found = tensors_of(answer)
    np.testing.assert_array_equal(
        np.frombuffer(found["logits"], "<f4"), np.array(want["logits"], np.float32)
    )
    assert np.frombuffer(found["class_ids"], "<i8").tolist() == [
        each["class_id"] for each in want["predictions"]
    ]
    np.testing.assert_array_equal(
        np.frombuffer(found["scores"], "<f4"),
        np.array([each["score"] for each in want["predictions"]], np.float32),
    )


def test_a_segmentation_is_that_of_v1(service: RunningService, photograph: bytes) -> None:
    want = CLIENT.post(f"{service.url}/v1/segment?mask=none", content=photograph).json()
    url = f"{service.url}/v2/models/demo-segment/infer"
    body, headers = binary_images(photograph)
    answer = CLIENT.post(url, content=body, headers=headers)
    found = tensors_of(answer)
    assert np.frombuffer(found["class_ids"], "<i8").tolist() == [
        each["class_id"] for each in want["classes"]
    ]
    pixels = np.bincount(np.frombuffer(found["label_map"], np.uint8))
    assert {each["class_id"]: each["pixels"] for each in want["classes"]} == {
        class_id: count for class_id, count in enumerate(pixels.tolist()) if count
    }


def test_calls_are_logged_with_their_model(service: RunningService) -> None:
    CLIENT.get(f"{service.url}/v2/models/demo/ready")
    lines = [line for line in service.log.splitlines() if "/v2/models/demo/infer" in line]
    assert lines
    assert all("demo" in line and "request_id" in line for line in lines)
    assert "/v2/health/live" not in service.log
