"""Queries and Accept headers are judged strictly, and alike on all routes of the API."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from service.settings import Settings
from support.api_requests import JPEG, is_problem, photo
from support.service_fakes import FakeEngines, fake_app

TASKS = ("classify", "segment", "detect")


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(detect_model="mask_rcnn_overlock_xt", detect_weights="x.pth")
    return fake_app(settings, engines)


async def asked(client: httpx.AsyncClient, route: str, query: str) -> httpx.Response:
    if route == "models":
        return await client.get(f"/v1/models?{query}")
    return await client.post(f"/v1/{route}?{query}", content=photo(), headers=JPEG)


@pytest.mark.parametrize(
    "value",
    [
        "%2B2",
        "+2",
        "%202",
        "2%20",
        "2.0",
        "2e0",
        "0_2",
        "1_0",
        "%D9%A2",
        "%EF%BC%92",
        "",
        "0x2",
        "-1",
    ],
)
@pytest.mark.parametrize(("route", "name"), [("classify", "top_k"), ("detect", "max_detections")])
async def test_an_integer_is_written_in_digits_alone(
    client: httpx.AsyncClient, route: str, name: str, value: str
) -> None:
    answer = await asked(client, route, f"{name}={value}")
    detail = is_problem(answer, 422, "invalid-parameter")
    assert detail.startswith((f"{name}: write it as", f"{name}: Input should be"))


@pytest.mark.parametrize("value", ["True", "FALSE", "1", "0", "yes", "on", "%20true", ""])
async def test_a_boolean_is_true_or_false(client: httpx.AsyncClient, value: str) -> None:
    answer = await asked(client, "detect", f"masks={value}")
    assert "true or false" in is_problem(answer, 422, "invalid-parameter")


@pytest.mark.parametrize(
    "value", ["%2B1", "+1", "%201", "1_0", "nan", "inf", "1.", ".5", "0x1", ""]
)
@pytest.mark.parametrize("route", TASKS)
async def test_a_number_is_written_as_in_json(
    client: httpx.AsyncClient, route: str, value: str
) -> None:
    answer = await asked(client, route, f"timeout={value}")
    assert "timeout: " in is_problem(answer, 422, "invalid-parameter")


async def test_what_is_written_well_is_taken(client: httpx.AsyncClient) -> None:
    for route, query in (
        ("classify", "top_k=2&timeout=1e1"),
        ("classify", "top_k=02"),
        ("segment", "mask=rle&timeout=5"),
        ("detect", "masks=false&score_threshold=0.5&max_detections=3"),
        ("models", ""),
    ):
        answer = await asked(client, route, query)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("route", [*TASKS, "models"])
async def test_a_repeated_parameter_is_refused_by_name(
    client: httpx.AsyncClient, route: str
) -> None:
    answer = await asked(client, route, "timeout=5&timeout=5")
    assert "timeout is given 2 times" in is_problem(answer, 422, "invalid-parameter")


@pytest.mark.parametrize("route", [*TASKS, "models"])
async def test_an_unknown_parameter_is_refused_by_name(
    client: httpx.AsyncClient, route: str
) -> None:
    answer = await asked(client, route, "colour=red")
    assert "no parameter colour" in is_problem(answer, 422, "invalid-parameter")


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("application/json", True),
        ("application/*;q=0.1, text/html", True),
        ("text/html, */*;q=0.8", True),
        ("", True),
        ("text/html", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*;q=0", False),
        ("audio/*", False),
    ],
)
@pytest.mark.parametrize("route", [*TASKS, "models"])
async def test_accept_is_judged_alike_on_all_routes(
    client: httpx.AsyncClient, route: str, accept: str, accepted: bool
) -> None:
    headers = {**JPEG, "Accept": accept}
    method, content = ("GET", None) if route == "models" else ("POST", photo())
    answer = await client.request(method, f"/v1/{route}", content=content, headers=headers)
    if accepted:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
    else:
        assert "application/json" in is_problem(answer, 406, "not-acceptable")
