from __future__ import annotations

import logging
import re

import httpx
import pytest
from fastapi import FastAPI

from service.web.pipeline import Pipeline
from support.service_fakes import FakeEngines


async def test_liveness_does_not_depend_on_the_engine(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_readiness_follows_the_engine(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    engines.ready = False
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_a_problem_names_no_more_than_a_few_of_many_faults(client: httpx.AsyncClient) -> None:
    query = "&".join(f"k{number}={'x' * 100}" for number in range(500))
    problem = (await client.post(f"/v1/classify?timeout={'9' * 1000}x&{query}")).json()
    assert problem["detail"].startswith("There are 501 faults, of which 8 follow.")
    assert len(problem["detail"]) < 1000


async def test_a_draining_service_is_not_ready(client: httpx.AsyncClient, app: FastAPI) -> None:
    pipeline: Pipeline = app.state.pipeline
    pipeline.draining.begun = True
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "draining" in answer.json()["detail"]


async def test_models_says_what_is_served_and_that_it_is_a_demo(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    assert [model["task"] for model in models] == ["classify", "segment", "detect"]
    model = models[0]
    assert model["name"] == "demo"
    assert model["demo"] is True
    assert "no photographs" in model["note"]
    assert model["classes"] == ["circle", "square", "star", "ring"]
    mean_and_std = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert model["input"] == {
        "width": 224,
        "height": 224,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        **mean_and_std,
    }
    names = ("input_size", "crop_pct", "interpolation", "mean", "std")
    assert model["input_from"] == dict.fromkeys(names, "architecture")
    scaled = {"short_side": 160, "long_side": 640, "multiple": 32}
    assert models[1]["input"] == scaled | mean_and_std
    assert models[1]["input_from"]["mean"] == "architecture"
    assert (model["weights_kind"], model["architecture"]) == ("raw", "demo")
    assert [each["activation"] for each in models] == ["softmax", None, None]
    assert "mean nothing" in models[1]["note"]
    assert model["weights_sha256"] == "ab" * 32
    assert model["fallbacks"] == []
    assert models[2]["fallbacks"] == ["record: no graph could be captured"]
    assert model["costs"] == [
        {"width": 224, "height": 224, "fixed_seconds": 0.01, "per_image_seconds": 0.02}
    ]


async def test_models_waits_for_an_engine_that_says_what_it_serves(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    assert (await client.get("/v1/models")).status_code == 503


async def test_a_log_line_holds_no_line_break_of_a_path(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="service.access"):
        await client.get("/x%0aforged%1b[31m")
    (line,) = [record.getMessage() for record in caplog.records if "forged" in record.message]
    assert line == "GET /x%0aforged%1b[31m" or line == "GET /x%0Aforged%1B[31m"


async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:overlock:problem:not-found"


async def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/v1/classify")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["type"] == "urn:overlock:problem:method-not-allowed"


async def test_requests_are_counted_by_route_template_and_status(
    client: httpx.AsyncClient,
) -> None:
    await client.get("/livez")
    await client.get("/some/made/up/path")
    text = (await client.get("/metrics")).text
    assert re.search(r'overlock_requests_total\{route="/livez",status="200"\} [1-9]', text)
    assert re.search(r'overlock_requests_total\{route="unmatched",status="404"\} [1-9]', text)
    assert "made" not in text


async def test_the_documentation_needs_no_other_host(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    links = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert links
    assert not [link for link in links if "//" in link]
    for link in links:
        assert (await client.get(link)).status_code == 200


async def test_the_openapi_document_shows_the_three_forms_and_the_problems(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/classify"]["post"]
    assert {"image/jpeg", "multipart/form-data", "application/json"} <= set(
        operation["requestBody"]["content"]
    )
    assert {"200", "400", "408", "413", "415", "422", "429", "500", "503", "504"} <= set(
        operation["responses"]
    )
    assert {p["name"] for p in operation["parameters"]} == {"top_k", "logits", "model", "timeout"}
