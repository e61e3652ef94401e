from __future__ import annotations

import httpx
import numpy as np
import pytest
from msgspec.structs import replace

from support.api_requests import JPEG, photo
from support.service_fakes import CLASSIFIER, DETECTOR, LOGITS, SEGMENTER, FakeEngines


async def explain(client: httpx.AsyncClient, query: str = "", **headers: str) -> httpx.Response:
    return await client.post(f"/v1/explain{query}", content=photo(), headers=JPEG | headers)


async def test_the_most_likely_class_is_mapped(client: httpx.AsyncClient) -> None:
    body = (await explain(client)).json()
    assert (body["model"], body["size"]) == ("demo", [7, 7])
    (found,) = body["maps"]
    assert (found["class_id"], found["label"]) == (2, "star")
    assert found["score"] == pytest.approx(0.65)
    assert found["logit"] == pytest.approx(np.mean(found["focus"]), abs=1e-6)
    assert found["overview"] == (-np.array(found["focus"])).tolist()
    assert (body["overview_logits_available"], body["reason"]) == (True, None)
    # Of 300 by 200 pixels the network sees the middle square.
    assert body["region"] == {"x": 50, "y": 0, "width": 200, "height": 200}
    assert body["image"] == {"width": 300, "height": 200, "frames": 1}


async def test_several_classes_are_mapped_by_rank_or_by_their_ids(
    client: httpx.AsyncClient,
) -> None:
    ranked = (await explain(client, "?top_k=3")).json()["maps"]
    assert [each["class_id"] for each in ranked] == [2, 1, 0]
    chosen = (await explain(client, "?class_id=3&class_id=0")).json()["maps"]
    assert [each["class_id"] for each in chosen] == [3, 0]
    assert [each["logit"] for each in chosen] == [float(LOGITS[3]), float(LOGITS[0])]


async def test_weights_without_the_auxiliary_head_say_so(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (replace(CLASSIFIER, has_overview=False),)
    engines.has_overview = False
    body = (await explain(client)).json()
    assert body["maps"][0]["overview"] is None
    assert body["overview_logits_available"] is False
    assert "aux_head" in body["reason"]
    for view in ("overview", "both"):
        refused = await explain(client, f"?view={view}", Accept="image/png")
        assert refused.status_code == 422
        assert f"view is {view}, but there is no overview" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?top_k=5", "top_k is 5; demo has 4 classes."),
        ("?top_k=65", "top_k: "),
        ("?class_id=4", "class_id is 4; the classes of demo are 0 to 3."),
        ("?class_id=1&class_id=1", "class_id 1 is given twice; give it once."),
        ("?class_id=1&top_k=1", "top_k and class_id exclude each other; give one of them."),
        ("?class_id=-1", "class_id: write it as a whole number"),
        ("?class_id=", "class_id: write it as a whole number"),
        ("?view=close", "view: "),
        ("?view=both", "view is both; that is a picture: send Accept: image/png."),
        (f"?model={SEGMENTER.name}", "model is demo-segment, which can segment; to explain, there"),
        (f"?model={DETECTOR.name}", "which can detect; to explain, there are demo."),
        ("?" + "&".join(f"class_id={number}" for number in range(65)), "class_id: "),
    ],
)
async def test_what_cannot_be_explained_is_refused_in_words(
    client: httpx.AsyncClient, query: str, detail: str
) -> None:
    answer = await explain(client, query)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


async def test_without_a_classifier_nothing_can_be_explained(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (SEGMENTER,)
    answer = await explain(client)
    assert answer.status_code == 404
    assert "CLASSIFY_MODEL" in answer.json()["detail"]
