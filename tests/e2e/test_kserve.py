"""The service as KServe starts it: by our ServingRuntime, with a folder of models."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from model.scenes.scenes import draw_scene
from support.kserve_manifests import MODELS, kserve_manifests, service_links
from support.protocol_calls import document
from support.running_service import RunningService

WEIGHTS = Path(__file__).parents[2] / "model/demo/weights/overlock_nano.safetensors"
STATED = '[stars]\narchitecture = "demo"\nweights = "overlock_nano.safetensors"\n'


@pytest.fixture(scope="module", params=["weights alone", "a models file"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(WEIGHTS, folder)
    if request.param == "a models file":
        (folder / "models.toml").write_text(STATED)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    manifests = kserve_manifests()
    assert manifests.container["args"] == ["serve"]
    environment = manifests.environment | service_links(manifests.name)
    # Paths and a port that are the container's own; docker/test_image.py has them as they are.
    assert environment.pop("OVERLOCK_MODELS_FILE") == MODELS
    assert environment.pop("OVERLOCK_CACHE_DIR") == "/var/cache/overlock"
    assert environment.pop("OVERLOCK_PORT") == "8080"
    environment["OMP_NUM_THREADS"] = "1"
    variables = [f"{name}={value}" for name, value in environment.items()]
    with RunningService(("env", *variables), models_file=str(folder)) as running:
        yield running


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(7, 480, 640, label=3).image).save(buffer, "JPEG")
    return buffer.getvalue()


def test_it_is_ready_and_so_is_the_model_of_the_inference_service(service: RunningService) -> None:
    assert service.get("/v2/health/ready").json() == {"ready": True}
    assert service.get("/v2/models/overlock/ready").status_code == 200
    assert service.get("/v2/models/stars/ready").status_code == 404
    assert [model["name"] for model in service.get("/v1/models").json()["models"]] == ["overlock"]


def test_the_model_answers_under_the_inference_services_name(service: RunningService) -> None:
    body = document(photo(), outputs=["labels", "scores"])
    answer = httpx.post(f"{service.url}/v2/models/overlock/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_name"] == "overlock"
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    assert outputs["labels"][0] == "star"


def test_it_can_be_scraped(service: RunningService) -> None:
    assert 'model="overlock"' in service.get("/metrics").text
