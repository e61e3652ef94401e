from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from starlette.types import Scope

from service.settings import Settings
from service.web.http import lean_route
from support.api_requests import JPEG, photo
from support.service_fakes import FakeEngines, fake_app

DESCRIBED = """
import json, sys
from fastapi.routing import APIRoute
from service.web.http import lean_route

if sys.argv[1] == "plain":
    lean_route.LeanRoute = APIRoute
from service.settings import Settings
from service.web.app import TASKS
from support.service_fakes import FakeEngines, fake_app

app = fake_app(Settings(), FakeEngines())
kinds = {type(route).__name__ for module in TASKS for route in module.router.routes}
print(json.dumps({"lean": "LeanRoute" in kinds, "document": app.openapi()}))
"""
"""Prints the API's document, with lean routes or with FastAPI's own."""

BODY = photo()
TASKS = ("classify", "segment", "detect", "embed", "explain")


def forbid_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def solve(**_: object) -> None:
        raise AssertionError("FastAPI's dependencies are solved")

    monkeypatch.setattr("fastapi.routing.solve_dependencies", solve)


@pytest.mark.parametrize("task", TASKS)
async def test_a_query_that_was_answered_once_is_not_validated_again(
    task: str, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.post(f"/v1/{task}?timeout=7", content=BODY, headers=JPEG)
    forbid_dependencies(monkeypatch)
    second = await client.post(f"/v1/{task}?timeout=7", content=BODY, headers=JPEG)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json().keys() == second.json().keys()
    assert first.headers.keys() == second.headers.keys()


async def test_each_spelling_of_a_query_has_its_own_values(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    for timeout in (7, 8, 7, 9, 8):
        assert (
            await client.post(f"/v1/classify?timeout={timeout}", content=BODY, headers=JPEG)
        ).status_code == 200
    assert engines.timeouts == [7, 8, 7, 9, 8]


@pytest.mark.parametrize("query", ["top_k=0", "timeout=7&timeout=7", "timeouts=7", "top_k=99"])
async def test_a_refused_query_is_refused_again(query: str, client: httpx.AsyncClient) -> None:
    answers = [
        await client.post(f"/v1/classify?{query}", content=BODY, headers=JPEG) for _ in range(3)
    ]
    problems = [{**answer.json(), "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert problems[0] == problems[1] == problems[2]


async def test_a_known_query_is_refused_with_an_accept_header_that_is_not_met(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.post("/v1/classify", content=BODY, headers=JPEG)).status_code == 200
    headers = {**JPEG, "Accept": "image/png"}
    for _ in range(2):
        answer = await client.post("/v1/classify", content=BODY, headers=headers)
        assert answer.status_code == 406


async def test_the_key_of_every_request_with_a_known_query_is_checked(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me {hashlib.sha256(b'secret').hexdigest()}\n")
    app = fake_app(Settings(api_keys_file=keys), FakeEngines())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        statuses = [
            (
                await client.post(
                    "/v1/classify",
                    content=BODY,
                    headers={} if key is None else {"Authorization": f"Bearer {key}"},
                )
            ).status_code
            for key in ("secret", "secret", None, "wrong", "secret")
        ]
    assert statuses == [200, 200, 401, 401, 200]


async def test_another_method_is_refused_for_a_known_query(client: httpx.AsyncClient) -> None:
    assert (
        await client.post("/v1/classify?top_k=2", content=BODY, headers=JPEG)
    ).status_code == 200
    answer = await client.get("/v1/classify?top_k=2")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_route_remembers_a_bounded_number_of_short_queries(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes: list[lean_route.LeanRoute] = []
    remember = lean_route.LeanRoute._remember

    def noted(route: lean_route.LeanRoute, scope: Scope, query: BaseModel) -> None:
        routes.append(route)
        remember(route, scope, query)

    monkeypatch.setattr(lean_route.LeanRoute, "_remember", noted)
    monkeypatch.setattr(lean_route, "MAX_SPELLINGS", 3)
    for timeout in range(1, 6):
        assert (
            await client.post(f"/v1/classify?timeout={timeout}", content=BODY, headers=JPEG)
        ).status_code == 200
    assert len(routes[0]._queries) == 2
    long_query = f"timeout=1.{'0' * lean_route.MAX_SPELLING_BYTES}"
    assert (
        await client.post(f"/v1/classify?{long_query}", content=BODY, headers=JPEG)
    ).status_code == 200
    assert len(routes[0]._queries) == 2


@pytest.mark.slow
def test_the_api_is_described_as_with_plain_routes() -> None:
    lean, plain = described("lean"), described("plain")
    assert (lean["lean"], plain["lean"]) == (True, False)
    assert lean["document"] == plain["document"]


def described(routes: str) -> dict[str, Any]:
    completed = subprocess.run(
        [sys.executable, "-c", DESCRIBED, routes],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(completed.stdout)
    return found
