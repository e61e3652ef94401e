from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from support.service_fakes import FakeEngines, fake_app

KEY = "k-3141592653589793"


@pytest.fixture
async def guarded(tmp_path: Path, engines: FakeEngines) -> AsyncIterator[httpx.AsyncClient]:
    path = tmp_path / "keys"
    path.write_text(f"gateway {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    app = fake_app(Settings(api_keys_file=path), engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": KEY}],
)
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/segment?mask=bad", "/v1/detect"])
async def test_a_request_without_a_valid_key_gets_401_and_nothing_else(
    guarded: httpx.AsyncClient, headers: dict[str, str], path: str
) -> None:
    answer = await guarded.post(path, headers=headers, content=b"no image")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="overlock-service"'
    assert answer.json()["type"] == "urn:overlock:problem:unauthorized"
    assert KEY not in answer.text


async def test_a_key_opens_the_api(guarded: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert (await guarded.get("/v1/models", headers=headers)).status_code == 200
    assert (await guarded.get("/v1/models")).status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/"])
async def test_probes_metrics_documentation_and_the_page_need_no_key(
    guarded: httpx.AsyncClient, path: str
) -> None:
    assert (await guarded.get(path)).status_code == 200


async def test_the_log_names_the_key_and_never_shows_it(
    guarded: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await guarded.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        await guarded.get(f"/v1/models?key={KEY}")
    records = [vars(record) for record in caplog.records if record.name.startswith("service")]
    assert [record.get("key") for record in records] == ["gateway", None]
    assert KEY not in repr(records)


async def test_the_openapi_document_says_how_to_send_a_key(guarded: httpx.AsyncClient) -> None:
    document = (await guarded.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert "401" in document["paths"]["/v1/classify"]["post"]["responses"]
