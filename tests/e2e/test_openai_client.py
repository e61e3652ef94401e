"""OpenAI's own client, against the real service."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from model.scenes.scenes import draw_scene
from support.running_service import RunningService
from support.scene_files import png

IMAGES = [png(draw_scene(610_000 + seed, 120, 160).image) for seed in range(3)]
URLS = ["data:image/png;base64," + base64.b64encode(image).decode() for image in IMAGES]


@pytest.fixture(scope="module")
def client(demo: RunningService) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", ["demo", "demo-segment"])
def test_three_images_have_the_services_embeddings_in_both_encodings(
    client: openai.OpenAI, demo: RunningService, model: str
) -> None:
    as_base64 = client.embeddings.create(model=model, input=URLS)  # its default
    as_numbers = client.embeddings.create(model=model, input=URLS, encoding_format="float")
    for answer in (as_base64, as_numbers):
        assert answer.model == model
        assert [each.index for each in answer.data] == [0, 1, 2]
        for found, image in zip(answer.data, IMAGES, strict=True):
            single = httpx.post(
                f"{demo.url}/v1/embed",
                params={"model": model},
                content=image,
                headers={"Accept": "application/octet-stream"},
            )
            # Batches of other sizes add up in another order.
            np.testing.assert_allclose(
                found.embedding, np.frombuffer(single.content, "<f4"), rtol=1e-4, atol=1e-5
            )
    assert as_base64.usage.total_tokens == 0


def test_a_request_is_one_and_its_images_are_each_in_a_batch(
    client: openai.OpenAI, demo: RunningService
) -> None:
    def counted() -> tuple[float, float]:
        task = 'model="demo",task="embed"'
        images = demo.metric("overlock_batch_size_sum", task)
        requests = demo.metric("overlock_stage_duration_seconds_count", 'stage="read",task="embed"')
        return images, requests

    images, requests = counted()
    client.embeddings.create(model="demo", input=URLS)
    demo.wait_for(lambda: counted() == (images + 3, requests + 1))


def test_one_image_is_enough(client: openai.OpenAI) -> None:
    (found,) = client.embeddings.create(model="demo", input=URLS[0]).data
    assert len(found.embedding) == 256


def test_a_mistake_has_its_exception(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there are demo, demo-segment") as raised:
        client.embeddings.create(model="clip", input=URLS)
    assert raised.value.code == "unknown-model"
    broken = "data:image/png;base64," + base64.b64encode(IMAGES[0][:-200]).decode()
    with pytest.raises(openai.UnprocessableEntityError, match=r"input\[1\]: "):
        client.embeddings.create(model="demo", input=[URLS[0], broken])
