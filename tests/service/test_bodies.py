"""Bodies of requests: the three forms of an image, limits, and damage."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from support.api_requests import JPEG, is_problem, photo
from support.service_fakes import FakeEngines


async def test_a_multipart_field_is_classified(client: httpx.AsyncClient) -> None:
    files = {"image": ("a.jpg", photo(), "image/jpeg")}
    answer = await client.post("/v1/classify", files=files)
    assert answer.status_code == 200, answer.text


async def test_base64_in_json_is_classified(client: httpx.AsyncClient) -> None:
    document = {"image": base64.b64encode(photo()).decode()}
    answer = await client.post("/v1/classify", json=document)
    assert answer.status_code == 200, answer.text


async def test_the_three_forms_give_the_network_the_same_pixels(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    image = photo(333, 500, "PNG")
    await client.post("/v1/classify", content=image, headers={"Content-Type": "image/png"})
    await client.post("/v1/classify", files={"image": ("a.png", image, "image/png")})
    await client.post("/v1/classify", json={"image": base64.b64encode(image).decode()})
    first, second, third = (image.pixels for image in engines.images)
    assert (first == second).all()
    assert (first == third).all()


async def test_a_body_over_the_limit_is_refused_by_its_declared_length(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/classify", content=b"x" * 100_001, headers=JPEG)
    detail = is_problem(answer, 413, "body-too-large")
    assert "100001 bytes" in detail
    assert "100000 bytes" in detail


async def test_a_body_without_a_length_is_counted_and_not_read_on(
    client: httpx.AsyncClient,
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 10_000

    answer = await client.post("/v1/classify", content=endless(), headers=JPEG)
    is_problem(answer, 413, "body-too-large")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "slug"),
    [
        ("image/svg+xml", b"<svg/>", 415, "unsupported-media"),
        ("text/plain", b"hello", 415, "unsupported-media"),
        ("application/x-www-form-urlencoded", b"a=b", 415, "unsupported-media"),
        ("image/jpeg", b"", 422, "invalid-image"),
        ("image/jpeg", b"hello", 422, "invalid-image"),
        ("image/jpeg", photo()[:700], 422, "invalid-image"),
        ("image/png", photo(2000, 1000, "PNG"), 413, "image-too-large"),
        ("application/json", b"{", 400, "malformed-request"),
        ("application/json", b'"image"', 400, "malformed-request"),
        ("application/json", b"{}", 400, "malformed-request"),
        ("application/json", b'{"image": 5}', 400, "malformed-request"),
        ("application/json", b'{"image": "%%%"}', 400, "malformed-request"),
        ("application/json", '{"image": "é"}'.encode(), 400, "malformed-request"),
        ("application/json", b'{"x":' + b"[" * 40_000, 400, "malformed-request"),
        ("application/json", b'{"image": "\xff"}', 400, "malformed-request"),
        ("application/json", b'{"image": ""}', 422, "invalid-image"),
        ("multipart/form-data", b"--a\r\n", 400, "malformed-request"),
        ("multipart/form-data; boundary=a", b"", 400, "malformed-request"),
        ("multipart/form-data; boundary=a", b"rubbish", 400, "malformed-request"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nno", 400, "malformed-request"),
    ],
)
async def test_a_bad_body_is_refused_with_a_problem(
    client: httpx.AsyncClient, content_type: str, body: bytes, status: int, slug: str
) -> None:
    headers = {"Content-Type": content_type}
    answer = await client.post("/v1/classify", content=body, headers=headers)
    assert is_problem(answer, status, slug)


async def test_a_stalled_upload_is_given_up_at_its_deadline(client: httpx.AsyncClient) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield photo()[:100]
        await asyncio.sleep(10)

    answer = await client.post("/v1/classify?timeout=0.05", content=stalled(), headers=JPEG)
    assert "100 bytes" in is_problem(answer, 408, "upload-timeout")
