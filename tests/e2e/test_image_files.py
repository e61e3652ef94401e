"""Image files of every kind, sent to the real service."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from support.image_samples import bad_samples, good_samples
from support.running_service import RunningService
from support.undecoded_images import undecoded_images
from support.undelivered_images import undelivered_images

RARE = ("gif-", "webp-smaller", "bmp-", "bigtiff-", "avif", "heic", "jpeg-")


@pytest.fixture(scope="module")
def client(demo: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        yield client


def classify(client: httpx.Client, body: bytes, media_type: str) -> httpx.Response:
    return client.post("/v1/classify?top_k=10", content=body, headers={"Content-Type": media_type})


def test_a_file_means_the_same_as_a_png_of_its_pixels(client: httpx.Client) -> None:
    samples = {name: s for name, s in good_samples().items() if name.startswith(RARE)}
    for name, sample in samples.items():
        answer = classify(client, sample.body, sample.media_type)
        assert answer.status_code == 200, f"{name}: {answer.text}"
        png = io.BytesIO()
        Image.fromarray(sample.rgb).save(png, "PNG")
        same = classify(client, png.getvalue(), "image/png").json()
        got, want = answer.json()["predictions"], same["predictions"]
        scores = {each["label"]: each["score"] for each in want}
        # A codec that rounds changes the scores a little.
        slack = 1e-4 if sample.tolerance == 0 else 0.2
        for each in got:
            assert each["score"] == pytest.approx(scores[each["label"]], abs=slack), name
        facts = answer.json()["image"]
        assert (facts["height"], facts["width"], 3) == sample.rgb.shape, name
        assert facts["frames"] == sample.frames, name


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


def test_a_bomb_is_413(client: httpx.Client) -> None:
    bombs = {name: sample for name, sample in bad_samples().items() if sample.status == 413}
    assert {"avif-tile-bomb", "heic-cropped-bomb"} <= bombs.keys()
    for name, sample in bombs.items():
        assert classify(client, sample.body, sample.media_type).status_code == 413, name
