from __future__ import annotations

import asyncio
import io
import json
import subprocess
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Page, Request, expect

from support.page_visitor import HEIGHT, SCENE, TIMES, WIDTH, choose, hand_over, scene_file, select
from support.running_service import RunningService
from support.service_fakes import FakeEngines


async def alpha_at(page: Page, x: float, y: float) -> int:
    """Return the overlay's alpha at a point given in shares of the sides."""
    alpha: int = await page.locator(".regions").evaluate(
        """(canvas, [x, y]) => canvas.hidden ? 0 : canvas.getContext("2d").getImageData(
            Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data[3]""",
        [x, y],
    )
    return alpha


async def point_at(page: Page, x: float, y: float) -> None:
    box = await page.locator(".frame").bounding_box()
    assert box
    await page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


async def shown_rows(page: Page) -> list[str]:
    return [" ".join(text.split("\n")) for text in await page.locator(".region").all_inner_texts()]


async def test_classes_come_as_bars_with_scores(page: Page, url: str) -> None:
    await page.goto(url)
    await choose(page)
    bars = page.locator(".bar")
    await expect(bars).to_have_text(["star65.0 %", "square20.0 %", "circle10.0 %", "ring5.0 %"])
    widths = await bars.locator(".bar-track").evaluate_all(
        "(tracks) => tracks.map((track) => +track.style.getPropertyValue('--share'))"
    )
    assert widths == pytest.approx([0.65, 0.2, 0.1, 0.05])
    await expect(page.get_by_role("status")).to_have_text("star, 65.0 %.")
    await expect(page.locator("#facts")).to_contain_text(f"scene.png, {WIDTH} {TIMES} {HEIGHT}")


async def test_a_label_map_tells_the_class_under_the_pointer_without_another_request(
    page: Page, url: str
) -> None:
    await page.goto(url)
    await select(page, "Segment")
    await choose(page)
    await expect(page.locator(".region")).to_have_count(2)
    # Equal areas: the lower class id first, as the service orders them.
    assert await shown_rows(page) == ["circle 50.0 %", "star 50.0 %"]
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    probe = page.locator(".probe")
    await point_at(page, 0.3, 0.4)
    await expect(probe).to_have_text("star")
    await point_at(page, 0.7, 0.4)
    await expect(probe).to_have_text("circle")
    await page.mouse.move(0, 0)
    await expect(probe).to_be_hidden()
    assert asked == []


async def test_opacity_and_a_pressed_class_change_the_overlay(page: Page, url: str) -> None:
    await page.goto(url)
    await select(page, "Segment")
    await choose(page)
    await page.get_by_label("Opacity").fill("0.8")
    assert await alpha_at(page, 0.2, 0.5) == pytest.approx(0.8 * 255, abs=1)
    await page.get_by_role("button", name="circle").click()
    await page.mouse.move(0, 0)
    assert await alpha_at(page, 0.8, 0.5) == pytest.approx(0.8 * 255, abs=1)
    assert 0 < await alpha_at(page, 0.2, 0.5) < 40
    await page.get_by_label("Opacity").fill("0")
    assert await alpha_at(page, 0.8, 0.5) == 0


async def test_detections_follow_the_least_score(page: Page, url: str) -> None:
    await page.goto(url)
    await select(page, "Detect")
    await choose(page)
    await expect(page.get_by_text("2 of 3 detections")).to_be_visible()
    assert await shown_rows(page) == ["star 90.0 %", "circle 60.0 %"]
    # The service's boxes are 4, 2, 20, 10 and 30, 20, 50, 44; the best is drawn last, on top.
    placed = await page.locator(".box").last.evaluate(
        "({ style }) => ['left', 'top', 'width', 'height'].map((n) => parseFloat(style[n]))"
    )
    assert placed == pytest.approx(
        [100 * 4 / WIDTH, 100 * 2 / HEIGHT, 100 * 16 / WIDTH, 100 * 8 / HEIGHT], abs=0.01
    )
    await point_at(page, 12 / WIDTH, 6 / HEIGHT)
    await expect(page.locator(".probe")).to_have_text("star 90.0 %")
    await page.get_by_label("Minimum score").fill("0.95")
    await expect(page.get_by_text("None of 3 detections has this score")).to_be_visible()
    await expect(page.locator(".box")).to_have_count(0)
    await page.get_by_label("Minimum score").fill("0.05")
    await expect(page.locator(".box")).to_have_count(3)
    assert await alpha_at(page, 40 / WIDTH, 32 / HEIGHT) > 0
    await page.get_by_label("Masks").uncheck()
    assert await alpha_at(page, 40 / WIDTH, 32 / HEIGHT) == 0


async def test_the_stages_of_server_timing_are_listed(page: Page, url: str) -> None:
    await page.goto(url)
    await choose(page)
    stages = ["read", "decode", "queue", "inference", "render", "other", "connection"]
    await expect(page.locator(".time-list dt")).to_have_text(stages)
    # As the fake engines say it.
    await expect(page.locator(".time-list dd").nth(3)).to_have_text("20 ms")
    await expect(page.locator(".headline")).to_contain_text("in a batch of 3")


@pytest.mark.parametrize("task", ["Classify", "Segment", "Detect"])
async def test_the_curl_command_asks_the_same(page: Page, url: str, task: str) -> None:
    await page.goto(url)
    await select(page, task)
    async with page.expect_response(lambda answer: "/v1/" in answer.url) as answering:
        await page.get_by_role("button", name="Heart").click()
    seen = await (await answering.value).json()
    command = await page.locator(".command").inner_text()
    received = await run_in_shell(command)
    for answer in (seen, received):
        del answer["timing"]
    assert received == seen


async def run_in_shell(command: str) -> Any:
    # Not subprocess.run: the service runs in this event loop and has to go on.
    process = await asyncio.create_subprocess_shell(
        command.replace("curl ", "curl -s "), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    return json.loads(output)


async def test_a_name_with_spaces_and_quotes_is_quoted_for_the_shell(page: Page, url: str) -> None:
    await page.goto(url)
    await choose(page, scene_file("it's mine.png"))
    await expect(page.locator(".command")).to_contain_text(r"'@it'\''s mine.png'")


async def test_an_image_may_be_dropped_or_pasted(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_role("tab").first.wait_for()
    for way in ("drop", "paste"):
        await hand_over(page, way, {f"{way}ped.png": SCENE})
        await expect(page.locator("#facts")).to_contain_text(f"{way}ped.png, {WIDTH}")
        await expect(page.locator(".bar")).to_have_count(4)
    await hand_over(page, "paste", {})
    await expect(page.get_by_role("status")).to_have_text("The clipboard holds no image.")


async def test_another_image_cancels_what_runs_for_the_first(
    page: Page, url: str, engines: FakeEngines
) -> None:
    await page.goto(url)
    engines.hang = True
    await choose(page, scene_file("first.png"))
    await expect(page.get_by_text("Classifying…")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    while not engines.images:
        await page.wait_for_timeout(10)
    engines.hang = False
    await choose(page, scene_file("second.png"))
    await engines.cancelled.wait()
    await expect(page.locator(".bar")).to_have_count(4)
    await expect(page.locator("#facts")).to_contain_text("second.png")


async def test_cancel_stops_a_request_which_can_be_run_again(
    page: Page, url: str, engines: FakeEngines
) -> None:
    await page.goto(url)
    engines.hang = True
    await choose(page)
    while not engines.images:
        await page.wait_for_timeout(10)
    await page.get_by_role("button", name="Cancel").click()
    await engines.cancelled.wait()
    engines.hang = False
    await page.get_by_role("button", name="Run again").click()
    await expect(page.locator(".bar")).to_have_count(4)


async def test_a_tab_that_was_looked_at_is_not_asked_again(
    page: Page, url: str, engines: FakeEngines
) -> None:
    await page.goto(url)
    await choose(page)
    for task in ("Segment", "Classify", "Segment"):
        await expect(page.locator(".about").first).to_be_visible()
        await select(page, task)
    await expect(page.locator(".region")).to_have_count(2)
    assert len(engines.images) == 2


async def test_a_photograph_of_24_megapixels(page: Page, url: str) -> None:
    buffer = io.BytesIO()
    noise = Image.effect_noise((600, 400), 60).convert("RGB").resize((6000, 4000))
    noise.save(buffer, "JPEG", quality=80)
    await page.goto(url)
    await select(page, "Segment")
    photo = {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
    await choose(page, photo)  # type: ignore[arg-type]  # is a FilePayload
    await expect(page.locator(".region")).to_have_count(2, timeout=30_000)
    await point_at(page, 0.9, 0.9)
    await expect(page.locator(".probe")).to_have_text("circle")
    await expect(page.locator("#facts")).to_contain_text(f"6000 {TIMES} 4000")
    box = await page.locator(".frame").bounding_box()
    assert box
    assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.01)
    assert box["height"] < 900


async def test_a_file_that_only_the_service_can_read(page: Page, url: str) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(SCENE)).save(buffer, "TIFF")
    await page.goto(url)
    scan = {"name": "scan.tiff", "mimeType": "image/tiff", "buffer": buffer.getvalue()}
    await choose(page, scan)  # type: ignore[arg-type]  # is a FilePayload
    await expect(page.locator(".bar")).to_have_count(4)
    await expect(page.get_by_text("This browser cannot display this file.")).to_be_visible()


async def test_the_weights_are_named_where_they_are_not_to_be_trusted(page: Page, url: str) -> None:
    await page.goto(url)
    note = page.locator(".note")
    await expect(note).to_contain_text("Demo weights")
    await select(page, "Segment")
    await expect(note).to_contain_text("Random weights: the answers mean nothing.")
    await select(page, "Detect")
    await expect(page.get_by_text("x.pth (sha256 cdcdcdcdcdcd…)")).to_be_visible()
    await expect(note).to_have_count(0)


async def test_an_example_is_named_and_found_by_the_demo(page: Page, demo: RunningService) -> None:
    await page.goto(demo.url)
    await expect(page.get_by_role("tab")).to_have_text(["Classify", "Segment", "Detect"])
    for name in ("Hexagon", "Star", "Ring", "Heart", "Crescent", "Square"):
        await page.get_by_role("button", name=name).click()
        await expect(page.locator("#facts")).to_contain_text(
            f"{name.lower()}.webp, 640 {TIMES} 480"
        )
        await expect(page.locator(".bar-label").first).to_have_text(name.lower())
    await select(page, "Segment")
    await expect(page.locator(".region-label").first).to_have_text("background")
    assert "square" in await page.locator(".region-label").all_inner_texts()
