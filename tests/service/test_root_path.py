"""Behind a proxy that offers the service below a prefix, and strips it or does not."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from service.settings import Settings
from support.api_requests import JPEG, photo
from support.service_fakes import FakeEngines, fake_app


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    return fake_app(Settings(root_path="/models/a"), engines)


@pytest.mark.parametrize("arrives_with", ["", "/models/a"])
async def test_every_page_and_route_works_with_the_prefix_stripped_or_not(
    client: httpx.AsyncClient, arrives_with: str
) -> None:
    async def get(public_path: str) -> httpx.Response:
        assert public_path.startswith("/models/a/"), public_path
        return await client.get(arrives_with + public_path.removeprefix("/models/a"))

    answer = await client.post(f"{arrives_with}/v1/classify", content=photo(), headers=JPEG)
    assert answer.status_code == 200
    for page in ("/models/a/", "/models/a/docs", "/models/a/redoc"):
        answer = await get(page)
        links = re.findall(r'(?:src|href|data-example)="([^"#]+)"', answer.text)
        assert links
        for link in links:
            if not link.endswith("metrics"):
                assert (await get(urljoin(page, link))).status_code == 200, link
    for page in ("/models/a/docs", "/models/a/redoc"):
        assert "/models/a/openapi.json" in (await get(page)).text
    document = (await get("/models/a/openapi.json")).json()
    assert document["servers"] == [{"url": "/models/a"}]
    metrics = (await get("/models/a/metrics")).text
    assert 'overlock_requests_total{route="/v1/classify",status="200"}' in metrics


async def test_other_prefixes_are_no_paths(client: httpx.AsyncClient) -> None:
    for path in ("/models/b/livez", "/models/alivez", "/models/a/models/a/livez"):
        assert (await client.get(path)).json()["status"] == 404


async def test_the_prefix_without_its_slash_leads_to_the_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/models/a")
    assert (answer.status_code, answer.headers["location"]) == (307, "/models/a/")
