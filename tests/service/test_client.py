"""The client with the real application and fake engines: every request and its answer."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from msgspec.structs import replace
from PIL import Image

from service.answers.inference import EngineResult
from service.api.errors import QueueFullError
from service.api.queries import ExplainQuery
from service.client import AsyncClient, ProblemError
from service.settings import Settings
from support.service_fakes import LABELS, LAYERS, FakeEngines, fake_app


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(detect_model="mask_rcnn_overlock_xt", detect_weights="x.pth")
    return fake_app(settings, engines)


@pytest.fixture
async def sending(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    def over_the_app(client: AsyncClient, headers: dict[str, str]) -> None:
        client._http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), headers=headers)

    monkeypatch.setattr(AsyncClient, "_open", over_the_app)
    async with AsyncClient("http://service", timeout_seconds=20) as client:
        yield client


def image(width: int = 64, height: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 90, 200)).save(file, "PNG")
    return file.getvalue()


async def test_classes(sending: AsyncClient) -> None:
    found = await sending.classify(image(), top_k=2)
    assert [each.label for each in found.predictions] == ["star", "square"]
    assert (found.image.width, found.image.height) == (64, 48)
    assert len((await sending.classify(image())).predictions) == len(LABELS)


async def test_a_model_is_asked_by_its_name(sending: AsyncClient, engines: FakeEngines) -> None:
    engines.models += tuple(replace(model, name=f"my-{model.task}") for model in engines.models)
    assert (await sending.classify(image(), model="my-classify")).model == "my-classify"
    assert (await sending.segment(image(), model="my-segment")).model == "my-segment"
    assert (await sending.detect(image(), model="my-detect")).model == "my-detect"
    assert await sending.segment_picture(image(), model="my-segment")
    assert await sending.detect_picture(image(), model="my-detect")
    with pytest.raises(ProblemError, match="There is no model 'your-classify'"):
        await sending.classify(image(), model="your-classify")


async def test_segments(sending: AsyncClient) -> None:
    found = await sending.segment(image(), mask="rle")
    assert {each.label: each.fraction for each in found.classes} == {"circle": 0.5, "star": 0.5}
    assert found.mask is not None
    assert found.mask.format == "rle"
    assert (await sending.segment(image(), mask="none")).mask is None


async def test_detections(sending: AsyncClient) -> None:
    found = await sending.detect(image(), score_threshold=0.5, max_detections=1)
    assert [each.label for each in found.detections] == ["star"]
    assert found.detections[0].mask is not None
    found = await sending.detect(image(), masks=False)
    assert [each.mask for each in found.detections] == [None] * 3


async def test_pictures(sending: AsyncClient) -> None:
    for png in (
        await sending.segment_picture(image()),
        await sending.segment_picture(image(), view="labels"),
        await sending.detect_picture(image(), score_threshold=0.5),
        await sending.explain_picture(image()),
    ):
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            assert picture.size == (64, 48)


async def test_embeddings(sending: AsyncClient) -> None:
    found = await sending.embed(image())
    assert (found.model, found.layer, found.dimension) == ("demo", "head", LAYERS["head"])
    assert found.embedding == [0, 1, 2, 3, 4, 5]
    found = await sending.embed(image(), layer="stage1", normalize=True, model="demo-segment")
    assert (found.model, found.layer, found.normalized) == ("demo-segment", "stage1", True)
    assert found.embedding == [0, 1]
    with pytest.raises(ProblemError, match="layer is 'neck'; demo has head, backbone, stage1"):
        await sending.embed(image(), layer="neck")


async def test_class_maps(sending: AsyncClient) -> None:
    assert [each.label for each in (await sending.explain(image())).maps] == ["star"]
    found = await sending.explain(image(), top_k=2)
    assert [each.label for each in found.maps] == ["star", "square"]
    found = await sending.explain(image(), class_ids=[3, 0], model="demo")
    assert [each.class_id for each in found.maps] == [3, 0]
    assert found.size == [len(found.maps[0].focus), len(found.maps[0].focus[0])]
    with pytest.raises(ProblemError, match="top_k and class_id exclude each other"):
        await sending.explain(image(), top_k=1, class_ids=(3,))


async def test_no_class_at_all_is_not_the_most_likely_one(sending: AsyncClient) -> None:
    with pytest.raises(ValueError, match="class_ids is empty"):
        await sending.explain(image(), class_ids=[])


async def test_a_picture_of_class_maps_is_of_those_that_were_named(
    sending: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ExplainQuery] = []

    def draw(_: EngineResult, query: ExplainQuery) -> bytes:
        asked.append(query)
        return b"a picture"

    monkeypatch.setattr("service.web.routes.explain.explain_picture", draw)
    assert await sending.explain_picture(image(), class_ids=[3, 0]) == b"a picture"
    assert await sending.explain_picture(image(), view="both", top_k=2, model="demo")
    assert [(each.view, each.class_id, each.top_k) for each in asked] == [
        ("focus", [3, 0], 1),
        ("both", [], 2),
    ]


async def test_models(sending: AsyncClient) -> None:
    models = await sending.models()
    assert [model.task for model in models] == ["classify", "segment", "detect"]
    assert models[1].note == "Random weights: the answers mean nothing."


async def test_the_service_gets_most_of_the_clients_time(
    sending: AsyncClient, engines: FakeEngines
) -> None:
    await sending.classify(image())
    assert engines.timeouts == [pytest.approx(18.0, abs=0.5)]


@pytest.mark.slow
async def test_a_busy_service_is_asked_again(sending: AsyncClient, engines: FakeEngines) -> None:
    asked = 0

    def refuse_once(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise QueueFullError(waiting=8, limit=8, retry_after_seconds=1)

    engines.reject_unreachable_deadline = refuse_once  # type: ignore[method-assign]
    assert (await sending.classify(image())).model == "demo"
    assert asked == 2


async def test_a_refusal_has_the_services_words(sending: AsyncClient) -> None:
    with pytest.raises(ProblemError, match="The image is empty: it has 0 bytes") as raised:
        await sending.classify(b"")
    assert raised.value.problem.status == 422
    assert raised.value.problem.instance == "/v1/classify"
