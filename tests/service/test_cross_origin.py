"""Pages of other origins call the service only if the settings name them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from support.api_requests import JPEG, is_problem, photo
from support.protocol_calls import HEADER_LENGTH, binary_images
from support.service_fakes import FakeEngines, fake_app

PAGE = "https://a.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}

Clients = Callable[..., httpx.AsyncClient]


@pytest.fixture
def serving(engines: FakeEngines, tmp_path: Path) -> Clients:
    keys = tmp_path / "keys"
    keys.write_text(f"page {hashlib.sha256(b'key').hexdigest()}\n")

    def start(**settings: str) -> httpx.AsyncClient:
        app = fake_app(Settings(api_keys_file=keys, **settings), engines)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    return start


async def test_no_page_is_allowed_by_default(serving: Clients) -> None:
    async with serving() as client:
        answer = await client.options("/v1/classify", headers=PREFLIGHT)
        is_problem(answer, 405, "method-not-allowed")
        answer = await client.get("/livez", headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", [PAGE, f"http://localhost:3000,{PAGE}", "*"])
async def test_a_preflight_is_answered_without_a_key(serving: Clients, origins: str) -> None:
    async with serving(cors_origins=origins) as client:
        answer = await client.options("/v1/classify", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in {PAGE, "*"}
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert answer.headers["x-request-id"]


async def test_a_page_may_read_what_helps_it(serving: Clients, engines: FakeEngines) -> None:
    headers = {**JPEG, "Origin": PAGE, "Authorization": "Bearer key"}
    async with serving(cors_origins=PAGE) as client:
        answers = [await client.post("/v1/classify", content=photo(), headers=headers)]
        answers.append(await client.post("/v1/classify", content=b"no image", headers=headers))
        answers.append(await client.post("/v1/classify", headers={"Origin": PAGE}))
        engines.error = RuntimeError("unforeseen")
        answers.append(await client.post("/v1/classify", content=photo(), headers=headers))
    assert [answer.status_code for answer in answers] == [200, 422, 401, 500]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Request-ID", "Server-Timing", "Retry-After", "X-Model-Weights"} <= set(exposed)
        assert "Origin" in answer.headers["vary"]


async def test_a_page_may_send_every_header_that_the_documents_name(serving: Clients) -> None:
    names = "accept, authorization, content-encoding, content-type, x-request-id"
    async with serving(cors_origins=PAGE) as client:
        asked = PREFLIGHT | {"Access-Control-Request-Headers": names}
        assert (await client.options("/v1/classify", headers=asked)).status_code == 200
        asked["Access-Control-Request-Headers"] = "x-other"
        refused = await client.options("/v1/classify", headers=asked)
    assert refused.status_code == 403
    assert "send Authorization, Content-Encoding" in refused.json()["detail"]


async def test_a_page_may_send_binary_tensors(serving: Clients) -> None:
    names = "authorization, content-type, inference-header-content-length"
    asked = PREFLIGHT | {"Access-Control-Request-Headers": names}
    content, headers = binary_images(photo())
    headers |= {"Origin": PAGE, "Authorization": "Bearer key"}
    async with serving(cors_origins=PAGE) as client:
        allowed = await client.options("/v2/models/demo/infer", headers=asked)
        answer = await client.post("/v2/models/demo/infer", content=content, headers=headers)
    assert allowed.status_code == answer.status_code == 200
    assert HEADER_LENGTH in answer.headers
    assert HEADER_LENGTH in answer.headers["access-control-expose-headers"].split(", ")


@pytest.mark.parametrize("change", [{"Origin": "https://b.example"}, {"Origin": "null"}])
async def test_another_page_is_refused_by_a_problem(
    serving: Clients, change: dict[str, str]
) -> None:
    async with serving(cors_origins=PAGE) as client:
        refused = await client.options("/v1/classify", headers=PREFLIGHT | change)
        answer = await client.get("/livez", headers=change)
    assert refused.status_code == 403
    assert "OVERLOCK_CORS_ORIGINS" in refused.json()["detail"]
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert "access-control-allow-origin" not in answer.headers
