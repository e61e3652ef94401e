from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from msgspec.structs import replace
from PIL import Image

from service.api.errors import DeadlineUnreachableError, QueueFullError
from support import service_fakes
from support.api_requests import JPEG, is_problem, photo
from support.service_fakes import CLASSIFIER, LOGITS, FakeEngines


async def test_a_raw_body_is_classified(client: httpx.AsyncClient, engines: FakeEngines) -> None:
    answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "demo"
    assert [p["label"] for p in body["predictions"]] == ["star", "square", "circle", "ring"]
    assert body["predictions"][0] == {
        "class_id": 2,
        "label": "star",
        "score": pytest.approx(0.65),
    }
    assert body["image"] == {"width": 300, "height": 200, "frames": 1}
    assert body["timing"]["queue_seconds"] == 0.001
    assert body["timing"]["inference_seconds"] == 0.02
    assert body["timing"]["batch_size"] == 3
    assert engines.images[0].pixels.shape == (224, 224, 3)
    assert engines.images[0].original_size == (200, 300)


async def test_logits_come_where_they_are_wanted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify?logits=true&top_k=1", content=photo(), headers=JPEG)
    assert answer.json()["logits"] == LOGITS.tolist()
    answer = await client.post("/v1/classify?logits=false", content=photo(), headers=JPEG)
    assert "logits" not in answer.json()


async def test_the_score_of_a_single_output_is_a_sigmoid(
    client: httpx.AsyncClient, engines: FakeEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.models = (replace(CLASSIFIER, activation="sigmoid", labels=("cat",)),)
    monkeypatch.setattr(service_fakes, "LOGITS", np.array([-1.0], np.float32))
    answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    (only,) = answer.json()["predictions"]
    assert only == {"class_id": 0, "label": "cat", "score": pytest.approx(1 / (1 + np.e))}


async def test_top_k_limits_the_predictions(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify?top_k=2", content=photo(), headers=JPEG)
    assert [p["label"] for p in answer.json()["predictions"]] == ["star", "square"]


@pytest.mark.parametrize(
    ("query", "mentions"),
    [
        ("top_k=0", "top_k"),
        ("top_k=many", "many"),
        ("top_k=5", "4 classes"),
        ("topk=3", "no parameter topk"),
        ("timeout=0", "timeout"),
        ("timeout=601", "600"),
        ("timeout=nan", "timeout"),
        ("timeout=inf", "timeout"),
    ],
)
async def test_a_bad_parameter_is_named(
    client: httpx.AsyncClient, engines: FakeEngines, query: str, mentions: str
) -> None:
    answer = await client.post(f"/v1/classify?{query}", content=photo(), headers=JPEG)
    assert mentions in is_problem(answer, 422, "invalid-parameter")
    assert engines.images == []


async def test_the_timeout_reaches_the_engine(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    await client.post("/v1/classify?timeout=2.5", content=photo(), headers=JPEG)
    await client.post("/v1/classify", content=photo(), headers=JPEG)
    assert engines.timeouts == [2.5, 30.0]


async def test_a_full_queue_is_told_with_a_time_to_come_back(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=9, limit=9, retry_after_seconds=2.2)
    answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    assert "limit is 9" in is_problem(answer, 429, "queue-full")
    assert answer.headers["retry-after"] == "3"


async def test_an_unreachable_deadline_is_told_at_once(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = DeadlineUnreachableError(needed_seconds=3.0, left_seconds=1.0)
    answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    is_problem(answer, 429, "deadline-unreachable")
    assert answer.headers["retry-after"] == "2"


async def test_an_engine_that_still_starts_is_told_before_the_body_is_read(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    answer = await client.post("/v1/classify", content=b"x" * 200_000, headers=JPEG)
    is_problem(answer, 503, "not-ready")
    assert answer.headers["retry-after"] == "1"


async def test_the_engines_reason_wins_where_the_deadline_passes_at_an_engine(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.down = True
    answer = await client.post("/v1/classify?timeout=0.2", content=photo(), headers=JPEG)
    is_problem(answer, 503, "not-ready")


async def test_the_unforeseen_is_a_problem_without_a_traceback(
    client: httpx.AsyncClient, engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    engines.error = RuntimeError("secret /path")
    with caplog.at_level(logging.ERROR):
        answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    is_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "secret /path" in caplog.text


async def test_a_client_that_leaves_withdraws_its_request(
    app: FastAPI, engines: FakeEngines
) -> None:
    engines.hang = True
    left = asyncio.Event()
    sent: list[Any] = []
    body = iter([{"type": "http.request", "body": photo(), "more_body": False}])

    async def receive() -> Any:
        for message in body:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/classify",
        "raw_path": b"/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"image/jpeg")],
    }
    request = asyncio.create_task(app(scope, receive, send))
    async with asyncio.timeout(5):
        while not engines.images:
            await asyncio.sleep(0.005)
    left.set()
    await asyncio.wait_for(request, 5)
    assert engines.cancelled.is_set()
    assert sent == []


async def test_a_sane_request_id_is_kept(client: httpx.AsyncClient) -> None:
    headers = {**JPEG, "X-Request-ID": "trace-42.a:b"}
    answer = await client.post("/v1/classify", content=photo(), headers=headers)
    assert answer.headers["x-request-id"] == "trace-42.a:b"


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "<script>"])
async def test_another_request_id_is_replaced(client: httpx.AsyncClient, request_id: str) -> None:
    headers = {**JPEG, "X-Request-ID": request_id}
    answer = await client.post("/v1/classify", content=photo(), headers=headers)
    assert len(answer.headers["x-request-id"]) == 32


async def test_server_timing_names_every_stage_in_order(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify", content=photo(), headers=JPEG)
    stages = answer.headers["server-timing"].split(", ")
    names = [stage.partition(";")[0] for stage in stages]
    assert names == ["read", "decode", "queue", "inference", "render", "total"]
    assert "inference;dur=20.000" in stages


async def test_a_refusals_server_timing_names_the_stages_that_it_reached(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=9, limit=9, retry_after_seconds=2.2)
    for content, reached in (
        (photo(), ["read", "decode", "total"]),
        (b"no image", ["read", "total"]),
    ):
        answer = await client.post("/v1/classify", content=content, headers=JPEG)
        stages = answer.headers["server-timing"].split(", ")
        assert [stage.partition(";")[0] for stage in stages] == reached


async def test_an_animation_says_so(client: httpx.AsyncClient) -> None:
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    headers = {"Content-Type": "image/gif"}
    answer = await client.post("/v1/classify", content=buffer.getvalue(), headers=headers)
    assert json.loads(answer.text)["image"]["frames"] > 1


async def classify(client: httpx.AsyncClient, query: str = "") -> httpx.Response:
    return await client.post(f"/v1/classify{query}", content=photo(), headers=JPEG)


async def test_the_answer_carries_the_digest_of_the_weights(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    response = await classify(client)
    assert response.headers["x-model-digest"] == "ab" * 32
    engines.models = (replace(CLASSIFIER, weights="random", weights_sha256=None),)
    assert (await classify(client)).headers["x-model-digest"] == "0"


@pytest.mark.parametrize(
    ("model", "status", "slug"),
    [
        ("demo-segment", 422, "invalid-parameter"),
        ("moths", 404, "unknown-model"),
        ("", 404, "unknown-model"),
        ("x" * 65, 422, "invalid-parameter"),
    ],
)
async def test_a_model_that_cannot_classify_is_refused(
    client: httpx.AsyncClient, model: str, status: int, slug: str
) -> None:
    response = await classify(client, f"?model={model}")
    assert response.status_code == status
    assert response.json()["type"].endswith(f":{slug}")


async def test_a_served_name_of_another_task_is_a_wrong_parameter_where_the_task_is_off(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (CLASSIFIER,)
    named = await client.post("/v1/detect?model=demo", content=photo(), headers=JPEG)
    assert (named.status_code, named.json()["detail"]) == (
        422,
        "model is demo, which can classify; to detect, there is no model.",
    )
    assert (
        await client.post("/v1/detect?model=x", content=photo(), headers=JPEG)
    ).status_code == 404
    assert (
        (await client.post("/v1/detect", content=photo(), headers=JPEG))
        .json()["type"]
        .endswith(":task-off")
    )


async def test_no_request_holds_a_generation_when_it_is_answered(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    for query in ("", "?model=moths", "?top_k=99"):
        await classify(client, query)
        assert engines.held == 0
