from __future__ import annotations

import io
from typing import get_args

import httpx
import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from service.api.queries import ExplainQuery
from support.api_requests import JPEG, photo
from support.scene_files import png
from support.service_fakes import CLASSIFIER, FakeEngines

VIEWS = get_args(ExplainQuery.model_fields["view"].annotation)


async def picture(
    client: httpx.AsyncClient, query: str = "", image: bytes | None = None
) -> np.ndarray:
    """Ask for a picture and read it, RGB."""
    headers = JPEG | {"Accept": "image/png"}
    answer = await client.post(f"/v1/explain{query}", content=image or photo(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["vary"] == "Accept"
    with Image.open(io.BytesIO(answer.content)) as image_file:
        assert (image_file.format, image_file.mode) == ("PNG", "RGB")
        return np.asarray(image_file)


@pytest.mark.parametrize("view", VIEWS)
async def test_the_picture_has_the_images_size_and_both_looks_twice_its_width(
    client: httpx.AsyncClient, view: str
) -> None:
    width = 600 if view == "both" else 300
    assert (await picture(client, f"?view={view}")).shape == (200, width, 3)


async def test_both_are_the_overview_and_to_its_right_the_focus(client: httpx.AsyncClient) -> None:
    overview, focus, both = [
        await picture(client, f"?view={view}") for view in ("overview", "focus", "both")
    ]
    assert np.array_equal(both, np.concatenate((overview, focus), axis=1))


async def test_the_focus_is_drawn_unless_another_view_is_asked_for(
    client: httpx.AsyncClient,
) -> None:
    assert np.array_equal(await picture(client), await picture(client, "?view=focus"))


async def test_the_image_outside_of_the_region_stays_and_inside_lightness_follows_the_map(
    client: httpx.AsyncClient,
) -> None:
    white = png(np.full((200, 300, 3), 255, np.uint8))
    got = (await picture(client, image=white)).astype(float)
    # The middle square, in which the fake's logits rise row by row; the legend is at its left.
    assert (got[30:170, :45] == 255).all()
    assert (got[30:170, 255:] == 255).all()
    rows = got[:, 220:250].mean(axis=(1, 2))
    middles = np.rint((np.arange(7) + 0.5) * 200 / 7).astype(int)
    assert (np.diff(rows[middles]) > 5).all()


async def test_the_first_of_several_classes_is_drawn(client: httpx.AsyncClient) -> None:
    first = await picture(client, "?class_id=1")
    assert np.array_equal(first, await picture(client, "?class_id=1&class_id=3"))
    assert not np.array_equal(first, await picture(client, "?class_id=3&class_id=1"))


async def test_the_picture_is_upright(client: httpx.AsyncClient) -> None:
    image, exif = Image.new("RGB", (300, 200)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert (await picture(client, image=buffer.getvalue())).shape == (300, 200, 3)


@pytest.mark.parametrize("view", ["overview", "both"])
async def test_without_the_auxiliary_head_there_is_no_overview_to_draw(
    client: httpx.AsyncClient, engines: FakeEngines, view: str
) -> None:
    engines.models = (replace(CLASSIFIER, has_overview=False),)
    answer = await client.post(
        f"/v1/explain?view={view}", content=photo(), headers=JPEG | {"Accept": "image/png"}
    )
    assert answer.status_code == 422
    assert f"view is {view}, but there is no overview" in answer.json()["detail"]
    assert engines.images == []


async def test_a_caller_who_accepts_neither_picture_nor_json_is_told_so(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await client.post(
        "/v1/explain", content=photo(), headers=JPEG | {"Accept": "image/webp"}
    )
    assert answer.status_code == 406
    assert "image/png" in answer.json()["detail"]
    assert engines.images == []
