from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from support.api_requests import JPEG, photo
from support.service_fakes import CLASSIFIER, DETECTOR, LAYERS, SEGMENTER, FakeEngines


async def embed(client: httpx.AsyncClient, query: str = "", **headers: str) -> httpx.Response:
    return await client.post(f"/v1/embed{query}", content=photo(), headers=JPEG | headers)


async def test_the_default_classifiers_head_is_embedded(client: httpx.AsyncClient) -> None:
    body = (await embed(client)).json()
    assert (body["model"], body["layer"], body["dimension"]) == ("demo", "head", 6)
    assert body["embedding"] == [0, 1, 2, 3, 4, 5]
    assert body["normalized"] is False
    assert body["image"] == {"width": 300, "height": 200, "frames": 1}
    assert body["timing"]["batch_size"] == 3


async def test_a_layer_is_chosen_by_its_name(client: httpx.AsyncClient) -> None:
    body = (await embed(client, "?layer=stage1&normalize=true")).json()
    assert (body["layer"], body["dimension"], body["normalized"]) == ("stage1", 2, True)
    assert body["embedding"] == [0, 1]


@pytest.mark.parametrize("model", [SEGMENTER.name, DETECTOR.name])
async def test_every_model_can_be_embedded(client: httpx.AsyncClient, model: str) -> None:
    answer = await embed(client, f"?model={model}")
    body = answer.json()
    assert (body["model"], body["layer"], body["dimension"]) == (model, "backbone", 4)
    refused = await embed(client, f"?model={model}&layer=head")
    assert refused.status_code == 422
    assert refused.json()["detail"] == f"layer is 'head'; {model} has backbone, stage1."


async def test_without_a_classifier_the_segmenter_is_the_default(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (SEGMENTER, DETECTOR)
    assert (await embed(client)).json()["model"] == "demo-segment"


async def test_the_numbers_come_alone_where_bytes_are_preferred(client: httpx.AsyncClient) -> None:
    answer = await embed(client, "?normalize=true", Accept="application/octet-stream")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-embedding-dimension"] == str(LAYERS["head"])
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["x-model-digest"] == CLASSIFIER.weights_sha256
    numbers = np.frombuffer(answer.content, "<f4")
    np.testing.assert_allclose(numbers, np.arange(6) / np.linalg.norm(np.arange(6)), rtol=1e-6)
    both = await embed(client, Accept="application/json, application/octet-stream;q=0.5")
    assert both.json()["dimension"] == 6


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?layer=" + "x" * 33, {}, 422),
        ("?normalize=yes", {}, 422),
        ("?layer=head&layer=head", {}, 422),
        ("?top_k=1", {}, 422),
        ("", {"Accept": "image/png"}, 406),
        ("?model=moths", {}, 404),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    client: httpx.AsyncClient, query: str, headers: dict[str, Any], status: int
) -> None:
    assert (await embed(client, query, **headers)).status_code == status
