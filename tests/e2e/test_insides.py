"""Embeddings and class maps of the real service, against the network in this process."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from model.config import CLASSIFIERS, SEGMENTERS, Task
from model.demo.loop import network_input
from model.images.preprocess import classification_input, segmentation_input
from model.scenes.scenes import draw_scene
from model.zoo import create_model
from support.running_service import CLIENT, RunningService
from support.scene_files import png

SCENE = draw_scene(11, 150, 200).image
LAYERS = ("head", "backbone", "stage1", "stage2", "stage3", "overview", "focus3", "focus4")


def ask(service: RunningService, path: str, **headers: str) -> httpx.Response:
    answer = CLIENT.post(
        f"{service.url}/v1/{path}",
        content=png(SCENE),
        headers={"Content-Type": "image/png"} | headers,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer


def images(task: Task) -> Tensor:
    image = Image.fromarray(SCENE)
    if task is Task.CLASSIFY:
        pixels: NDArray[np.uint8] = classification_input(image, CLASSIFIERS["demo"].geometry)
    else:
        pixels = segmentation_input(image, SEGMENTERS["demo"].geometry)
    return network_input(pixels[None])


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return create_model("demo", weights="demo")


@pytest.mark.parametrize("layer", LAYERS)
def test_an_embedding_is_the_networks(demo: RunningService, classifier: Any, layer: str) -> None:
    answer = ask(demo, f"embed?layer={layer}", Accept="application/octet-stream")
    with torch.inference_mode():
        want = classifier.embed(images(Task.CLASSIFY), layer)[0]
    found = np.frombuffer(answer.content, "<f4")
    assert answer.headers["x-embedding-dimension"] == str(len(want))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)  # float32, another order of sums


def test_a_segmenters_embedding_is_the_networks(demo: RunningService) -> None:
    network: Any = create_model("demo", weights="demo", task="segment")
    with torch.inference_mode():
        want = network.embed(images(Task.SEGMENT))[0]
    found = ask(demo, "embed?model=demo-segment").json()
    assert found["layer"] == "backbone"
    np.testing.assert_allclose(found["embedding"], want, rtol=1e-4, atol=1e-4)


def test_a_class_map_is_the_networks_and_its_mean_is_the_logit(
    demo: RunningService, classifier: Any
) -> None:
    found = ask(demo, "explain?top_k=10").json()
    classified = ask(demo, "classify?logits=true").json()
    with torch.inference_mode():
        maps = classifier.class_maps(images(Task.CLASSIFY))
    assert len(found["maps"]) == 10
    for each in found["maps"]:
        class_id = each["class_id"]
        assert np.mean(each["focus"]) == pytest.approx(each["logit"], abs=1e-4)
        assert each["logit"] == pytest.approx(classified["logits"][class_id], abs=1e-4)
        np.testing.assert_allclose(each["focus"], maps.focus[0, class_id], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(
            each["overview"], maps.overview[0, class_id], rtol=1e-4, atol=1e-3
        )
    ranked = [(each["class_id"], each["score"]) for each in found["maps"]]
    predictions = ask(demo, "classify?top_k=10").json()["predictions"]
    assert [class_id for class_id, _ in ranked] == [each["class_id"] for each in predictions]


def test_mixed_requests_get_what_they_get_alone(demo: RunningService) -> None:
    paths = [
        *(f"embed?layer={layer}" for layer in LAYERS),
        *(f"explain?top_k={count}" for count in (1, 2, 5)),
        *("explain?class_id=7&class_id=2", "classify?top_k=3", "embed?model=demo-segment"),
    ]
    alone = [ask(demo, path).json() for path in paths]
    with ThreadPoolExecutor(len(paths)) as clients:
        for _ in range(3):
            together = list(clients.map(lambda path: ask(demo, path).json(), paths))
            assert any(each["timing"]["batch_size"] > 1 for each in together)
            for mine, theirs in zip(together, alone, strict=True):
                assert_close(
                    {key: value for key, value in mine.items() if key != "timing"},
                    {key: value for key, value in theirs.items() if key != "timing"},
                )


def assert_close(mine: Any, theirs: Any) -> None:
    """Compare documents; another batch may round otherwise."""
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            assert_close(mine[key], value)
    elif isinstance(theirs, list) and theirs and isinstance(theirs[0], dict):
        for each, other in zip(mine, theirs, strict=True):
            assert_close(each, other)
    elif isinstance(theirs, float | list):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-3)
    else:
        assert mine == theirs


def test_openais_form_has_the_same_numbers(demo: RunningService) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(SCENE)).decode()
    document = {"model": "demo", "input": [url] * 20}
    answer = CLIENT.post(f"{demo.url}/v1/embeddings", json=document, timeout=60).json()
    want = ask(demo, "embed").json()["embedding"]
    for each in answer["data"]:
        np.testing.assert_allclose(each["embedding"], want, rtol=1e-4, atol=1e-4)
    batches = demo.metric("overlock_batch_size_count", 'task="embed"')
    assert batches > 0
