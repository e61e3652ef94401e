"""The model repository below ``/v2``, with a model control that the tests set."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.errors import ControlOffError
from service.processes.state import ConfiguredModel
from service.settings import Settings
from service.web.v2 import repository
from support.service_fakes import FakeControl, FakeEngines, fake_app

INDEX, LOAD, UNLOAD = (
    f"/v2/repository/{path}" for path in ("index", "models/demo/load", "models/demo/unload")
)
KEY = "secret"


@pytest.fixture
def control(app: FastAPI) -> FakeControl:
    control: FakeControl = app.state.control
    return control


def is_refused(answer: httpx.Response, status: int) -> str:
    """Check an error below ``/v2``; return its words."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    words: str = answer.json()["error"]
    return words


def client_of(app: FastAPI, url: str = "http://127.0.0.1:8000") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=url)


async def test_the_index_has_every_configured_model(
    client: httpx.AsyncClient, control: FakeControl
) -> None:
    control.listed += [
        ConfiguredModel("moths", "UNAVAILABLE", "unloaded"),
        ConfiguredModel("demo", "READY", "its file is broken"),
    ]
    answer = await client.post(INDEX)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == [
        {"name": "demo", "version": "ab" * 6, "state": "READY", "reason": ""},
        {"name": "demo-segment", "version": "0", "state": "READY", "reason": ""},
        {"name": "mask_rcnn_overlock_xt", "version": "cd" * 6, "state": "READY", "reason": ""},
        {"name": "moths", "version": "", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "demo", "version": "ab" * 6, "state": "READY", "reason": "its file is broken"},
    ]
    ready = await client.post(INDEX, json={"ready": True})
    assert {model["state"] for model in ready.json()} == {"READY"}
    assert len(ready.json()) == 4
    assert (await client.post(INDEX, json={"ready": False})).json() == answer.json()


async def test_until_its_engine_is_ready_a_model_is_not(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    assert {(each["state"], each["reason"]) for each in (await client.post(INDEX)).json()} == {
        ("UNAVAILABLE", "its engine is starting")
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOAD, None),
        (LOAD, {}),
        (LOAD, {"parameters": {}}),
        (UNLOAD, None),
        (UNLOAD, {"parameters": {"unload_dependents": False}}),
        (UNLOAD, {"parameters": {"unload_dependents": True}}),
    ],
)
async def test_a_model_is_loaded_and_unloaded(
    client: httpx.AsyncClient, control: FakeControl, path: str, body: Any
) -> None:
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    assert control.changes == [(path.rpartition("/")[2], "demo")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOAD, b'{"parameters": {"config": "{}"}}'),
        (LOAD, b'{"parameters": {"file:1/model.pt": ""}}'),
        (LOAD, b'{"parameters": {"unload_dependents": false}}'),
        (LOAD, b"[]"),
        (LOAD, b"{"),
        (LOAD, b"\xff"),
        (LOAD, b'{"parameters": null}'),
        (LOAD, b" " * (repository.MAX_BODY_BYTES + 1)),
        (UNLOAD, b'{"parameters": {"unload_dependents": 1}}'),
        (UNLOAD, b'{"parameters": {"path": "/"}}'),
        (UNLOAD, b'{"unload_dependents": false}'),
        (INDEX, b'{"ready": "yes"}'),
        (INDEX, b'{"repository": "x"}'),
        (INDEX, b"[" * 4000),
    ],
)
async def test_what_is_not_known_is_refused(
    client: httpx.AsyncClient, control: FakeControl, path: str, body: bytes
) -> None:
    answer = await client.post(path, content=body)
    is_refused(answer, 400)
    assert not control.changes


async def test_a_parameter_in_the_query_is_refused(
    client: httpx.AsyncClient, control: FakeControl
) -> None:
    is_refused(await client.post(f"{LOAD}?path=/"), 422)
    assert not control.changes


async def test_a_body_that_never_ends_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "UPLOAD_SECONDS", 0.01)

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"{"
            await asyncio.Event().wait()

    answer = await client.post(LOAD, content=Endless())
    is_refused(answer, 408)


async def test_an_error_of_the_control_is_the_answer(
    client: httpx.AsyncClient, control: FakeControl
) -> None:
    control.error = ControlOffError()
    detail = is_refused(await client.post(LOAD), 404)
    assert "OVERLOCK_MODEL_CONTROL" in detail


async def test_a_caller_holds_no_generation_while_it_waits(
    client: httpx.AsyncClient, control: FakeControl, engines: FakeEngines
) -> None:
    control.hang = True
    waiting = asyncio.create_task(client.post(LOAD))
    async with asyncio.timeout(5):
        while not control.changes:
            await asyncio.sleep(0)
    assert engines.held == 0
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_draining_worker_takes_no_more_changes(
    app: FastAPI, client: httpx.AsyncClient, control: FakeControl
) -> None:
    await app.state.pipeline.draining.run(0.0, 1.0)
    is_refused(await client.post(UNLOAD), 503)
    assert not control.changes


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8000", "http://evil.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001"),
        ("http://127.0.0.1:8000", "null"),
        ("http://127.0.0.1:8000", ""),
        ("http://127.0.0.1:8000", "http://["),
        ("http://127.0.0.1:8000", "ftp://127.0.0.1:8000"),
        # Its name may lead to a loopback address, whatever page it shows.
        ("http://evil.example:8000", "http://evil.example:8000"),
    ],
)
@pytest.mark.parametrize("path", [LOAD, UNLOAD])
async def test_a_page_of_another_origin_changes_nothing(
    app: FastAPI, control: FakeControl, url: str, origin: str, path: str
) -> None:
    async with client_of(app, url) as client:
        answer = await client.post(path, headers={"Origin": origin})
    is_refused(answer, 403)
    assert not control.changes


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
async def test_a_page_of_the_services_own_may(
    app: FastAPI, control: FakeControl, url: str, origin: str
) -> None:
    async with client_of(app, url) as client:
        assert (await client.post(LOAD, headers={"Origin": origin})).status_code == 200
    assert control.changes == [("load", "demo")]


async def test_keys_guard_the_repository(engines: FakeEngines, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"operator {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    app = fake_app(
        Settings(api_keys_file=keys, cors_origins="https://a.example"), engines, FakeControl("demo")
    )
    async with client_of(app, "http://service.example") as client:
        for path in (INDEX, LOAD, UNLOAD):
            is_refused(await client.post(path), 401)
        key = {"Authorization": f"Bearer {KEY}"}
        assert (await client.post(INDEX, headers=key)).status_code == 200
        for origin, status in (
            ("http://service.example", 200),
            ("https://service.example", 200),  # of a proxy that speaks TLS
            ("https://a.example", 403),
        ):
            answer = await client.post(LOAD, headers={**key, "Origin": origin})
            assert answer.status_code == status
