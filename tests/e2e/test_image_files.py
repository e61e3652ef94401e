"""Image files that are not delivered or not decoded, sent to the real service."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from support.running_service import RunningService
from support.undecoded_images import undecoded_images
from support.undelivered_images import undelivered_images


@pytest.fixture(scope="module")
def client(demo: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        yield client


def classify(client: httpx.Client, body: bytes, media_type: str) -> httpx.Response:
    return client.post("/v1/classify?top_k=10", content=body, headers={"Content-Type": media_type})


def test_a_file_that_does_not_deliver_every_pixel_is_422(client: httpx.Client) -> None:
    for name, body in undelivered_images():
        answer = classify(client, body, "application/octet-stream")
        assert (answer.status_code, answer.json()["type"]) == (
            422,
            "urn:overlock:problem:invalid-image",
        ), name


def test_an_intact_file_of_a_kind_that_is_not_decoded_is_415_with_its_name(
    client: httpx.Client,
) -> None:
    for name, body, kind in undecoded_images():
        answer = classify(client, body, "application/octet-stream")
        assert answer.status_code == 415, name
        assert kind in answer.json()["detail"], name
