from __future__ import annotations

import base64
import io
import json

import httpx
import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from pycocotools import mask as coco_mask

from model.scenes.scenes import draw_scene
from service.link.messages import InputInfo
from support.scene_files import png
from support.service_fakes import COLORS, SEGMENTER, FakeEngines, halves

HEIGHT, WIDTH = 80, 120
PICTURE = png(draw_scene(3, HEIGHT, WIDTH).image)
HEADERS = {"Content-Type": "image/png"}


async def segment(
    client: httpx.AsyncClient, query: str = "", accept: str = "*/*", status: int = 200
) -> httpx.Response:
    answer = await client.post(
        f"/v1/segment{query}", content=PICTURE, headers=HEADERS | {"Accept": accept}
    )
    assert answer.status_code == status, answer.text
    return answer


async def test_the_classes_that_occur_come_with_their_share(client: httpx.AsyncClient) -> None:
    body = (await segment(client)).json()
    assert body["model"] == "demo-segment"
    assert body["image"] == {"width": WIDTH, "height": HEIGHT, "frames": 1}
    half = HEIGHT * WIDTH // 2
    assert body["classes"] == [
        {"class_id": 0, "label": "circle", "color": "#0000ff", "pixels": half, "fraction": 0.5},
        {"class_id": 2, "label": "star", "color": "#ff0000", "pixels": half, "fraction": 0.5},
    ]
    assert body["timing"]["batch_size"] == 3


async def test_the_mask_is_a_palette_png_of_class_ids(client: httpx.AsyncClient) -> None:
    mask = (await segment(client)).json()["mask"]
    assert mask["format"] == "png"
    with Image.open(io.BytesIO(base64.b64decode(mask["data"]))) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), halves(HEIGHT, WIDTH))
        palette = image.getpalette()
        assert palette is not None
        assert palette[:12] == [value for color in COLORS for value in color]


async def test_the_mask_as_run_lengths_is_what_coco_reads(client: httpx.AsyncClient) -> None:
    mask = (await segment(client, "?mask=rle")).json()["mask"]
    assert mask["format"] == "rle"
    for entry in mask["data"]:
        (pixels,) = coco_mask.decode([entry]).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels == 1, halves(HEIGHT, WIDTH) == entry["class_id"])
    assert [entry["class_id"] for entry in mask["data"]] == [0, 2]


async def test_no_mask_is_null(client: httpx.AsyncClient) -> None:
    assert (await segment(client, "?mask=none")).json()["mask"] is None


async def test_a_png_is_the_label_map_itself(client: httpx.AsyncClient) -> None:
    answer = await segment(client, accept="image/png")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        np.testing.assert_array_equal(np.asarray(image), halves(HEIGHT, WIDTH))


async def test_the_overlay_shows_the_image_in_the_classes_colours(
    client: httpx.AsyncClient,
) -> None:
    answer = await segment(client, "?view=overlay", accept="image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
        drawn = np.asarray(image).astype(int)
    with Image.open(io.BytesIO(PICTURE)) as image:
        change = drawn - np.asarray(image).astype(int)
    # Class 2 is red and on the left, class 0 blue and on the right.
    assert change[:, : WIDTH // 2, 0].mean() > change[:, : WIDTH // 2, 2].mean() + 30
    assert change[:, WIDTH // 2 :, 2].mean() > change[:, WIDTH // 2 :, 0].mean() + 30


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/png;q=0.9, application/json;q=0.8", "image/png"),
        ("application/json, image/png;q=0.5", "application/json"),
        ("*/*", "application/json"),
        ("text/html,image/webp,*/*;q=0.8", "application/json"),
        ("image/png, */*;q=0.1", "image/png"),
        ("IMAGE/PNG", "image/png"),
    ],
)
async def test_the_callers_preference_decides(
    client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    assert (await segment(client, accept=accept)).headers["content-type"] == media_type


@pytest.mark.parametrize("accept", ["image/jpeg", "image/png;q=0", "text/html", "*/*;q=nan"])
async def test_a_caller_who_accepts_neither_is_told_so(
    client: httpx.AsyncClient, engines: FakeEngines, accept: str
) -> None:
    problem = (await segment(client, accept=accept, status=406)).json()
    assert problem["type"].endswith("not-acceptable")
    assert "image/png" in problem["detail"]
    assert engines.images == []


async def test_several_accept_headers_count_together(client: httpx.AsyncClient) -> None:
    headers = [("Content-Type", "image/png"), ("Accept", "text/html"), ("Accept", "image/png")]
    answer = await client.post("/v1/segment", content=PICTURE, headers=headers)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["vary"] == "Accept"


async def test_an_overlay_in_json_is_refused(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    problem = (await segment(client, "?view=overlay", status=422)).json()
    assert "Accept: image/png" in problem["detail"]
    assert engines.images == []


@pytest.mark.parametrize("query", ["?mask=svg", "?view=both", "?top_k=3"])
async def test_a_bad_parameter_is_refused(client: httpx.AsyncClient, query: str) -> None:
    problem = (await segment(client, query, status=422)).json()
    assert problem["type"].endswith("invalid-parameter")


async def test_the_network_gets_multiples_of_32_and_the_original_size(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    await segment(client)
    (image,) = engines.images
    assert image.pixels.shape == (160, 256, 3)  # 120 / 80 * 160 = 240, the next multiple is 256
    assert image.size == (160, 256)
    assert image.original_size == (HEIGHT, WIDTH)


async def test_square_geometry_gives_every_image_one_size(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (replace(SEGMENTER, input=InputInfo(height=160, width=160)),)
    label_map = await segment(client, accept="image/png")
    assert engines.images[0].size == (160, 160)
    with Image.open(io.BytesIO(label_map.content)) as image:
        assert image.size == (WIDTH, HEIGHT)


async def test_answers_of_demo_and_random_weights_say_so(client: httpx.AsyncClient) -> None:
    assert (await segment(client)).headers["x-model-weights"] == "random"
    assert (await segment(client, accept="image/png")).headers["x-model-weights"] == "random"
    classified = await client.post("/v1/classify", content=PICTURE, headers=HEADERS)
    assert classified.headers["x-model-weights"] == "demo"


async def test_the_document_names_the_picture(client: httpx.AsyncClient) -> None:
    answer = json.loads((await client.get("/openapi.json")).text)
    content = answer["paths"]["/v1/segment"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "image/png"}
