"""The page on a phone, in high contrast, in an older browser, and with unfit images."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace
from PIL import Image
from playwright.async_api import Browser, FilePayload, Page, expect

from model.config import Task
from service.settings import Settings
from support import service_fakes
from support.page_visitor import SCENE, choose, hand_over, select
from support.served_app import served
from support.service_fakes import FakeEngines

WIDTHS = {320: 568, 375: 667, 1280: 900}
SCHEMES = ("light", "dark")


def portrait() -> FilePayload:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((900, 1600)).convert("RGB").save(buffer, "JPEG")
    return {"name": "portrait.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_a_portrait_s_answer_is_seen_without_scrolling(
    page: Page, url: str, width: int, scheme: str
) -> None:
    height = WIDTHS[width]
    await page.set_viewport_size({"width": width, "height": height})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # is a literal
    await page.goto(url)
    await choose(page, portrait())
    first = page.locator(".bar").first
    await expect(first).to_be_in_viewport(ratio=1)
    frame, answer, examples = [
        await page.locator(each).bounding_box() for each in (".frame", ".bar >> nth=0", ".examples")
    ]
    assert frame
    assert answer
    assert examples
    assert frame["height"] > 100
    if width < 900:
        assert frame["y"] < answer["y"] < examples["y"]
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    for task in ("Segment", "Detect"):
        await select(page, task)
        await expect(page.locator(".region").first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") == width


@pytest_asyncio.fixture(loop_scope="session")
async def high_contrast(chromium: Browser) -> AsyncIterator[Page]:
    context = await chromium.new_context(
        viewport={"width": 375, "height": 667}, forced_colors="active", color_scheme="dark"
    )
    yield await context.new_page()
    await context.close()


async def style(page: Page, selector: str, name: str) -> str:
    found: str = await page.locator(selector).first.evaluate(
        "(element, name) => getComputedStyle(element)[name]", name
    )
    return found


async def test_forced_colours_keep_what_colours_mean(high_contrast: Page, url: str) -> None:
    page = high_contrast
    await page.goto(url)
    await choose(page)
    await expect(page.locator(".bar")).to_have_count(4)
    assert "gradient" in await style(page, ".bar-track", "backgroundImage")
    assert await style(page, ".bar-track", "borderTopWidth") == "1px"
    selected, other = [
        await style(page, f'[role="tab"][aria-selected="{each}"]', "borderBottomColor")
        for each in ("true", "false")
    ]
    assert selected != other
    stages = await page.locator(".time-bar span").evaluate_all(
        "(parts) => parts.map((part) => getComputedStyle(part).backgroundColor)"
    )
    assert len(set(stages)) == 7
    await select(page, "Segment")
    swatches = page.locator(".swatch")
    await expect(swatches).to_have_count(2)
    colors = await swatches.evaluate_all(
        "(all) => all.map((each) => getComputedStyle(each).backgroundColor)"
    )
    assert colors == ["rgb(0, 0, 255)", "rgb(255, 0, 0)"]
    await page.locator(".region").first.click()
    assert await style(page, '.region[aria-pressed="true"]', "outlineStyle") == "solid"
    await select(page, "Detect")
    assert await style(page, ".box", "borderTopColor") in {"rgb(61, 220, 132)", "rgb(255, 176, 32)"}


async def test_a_browser_without_map_groupby_works(page: Page, url: str) -> None:
    await page.add_init_script("delete Map.groupBy; delete Object.groupBy;")
    await page.goto(url)
    await choose(page)
    await expect(page.locator(".bar")).to_have_count(4)


@pytest.mark.parametrize(
    "breaking",
    [
        "Element.prototype.replaceChildren = undefined",
        "window.fetch = () => Promise.resolve(null)",
        "Object.defineProperty(window, 'URL', { value: undefined })",
    ],
)
async def test_an_unforeseen_error_is_told(chromium: Browser, url: str, breaking: str) -> None:
    context = await chromium.new_context()
    page = await context.new_page()
    await page.add_init_script(breaking)
    await page.goto(url)
    problem = page.get_by_role("alert").first
    await expect(problem).to_contain_text("Something unforeseen went wrong in this page")
    await expect(problem).to_contain_text("Error")
    await context.close()


async def test_a_second_file_is_told_to_be_left_out(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_role("tab").first.wait_for()
    await hand_over(page, "drop", {"first.png": SCENE, "second.png": SCENE, "third.png": SCENE})
    refusal = page.locator("#refusal")
    await expect(refusal).to_have_text("One image at a time: 2 other files left out.")
    await expect(page.locator("#facts")).to_contain_text("first.png")
    await hand_over(page, "drop", {"fourth.png": SCENE})
    await expect(refusal).to_be_hidden()


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_refusal_is_seen_wherever_the_page_was_scrolled_to(
    page: Page, url: str, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    await page.goto(url)
    await choose(page, portrait())
    await expect(page.locator(".bar")).to_have_count(4)
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await hand_over(page, "drop", {})
    refusal = page.get_by_role("alert")
    await expect(refusal).to_contain_text("That is not a file.")
    await expect(refusal).to_be_in_viewport(ratio=0.95)
    assert await style(page, "#refusal", "borderLeftWidth") == "4px"
    # The picture's own facts stay.
    await expect(page.locator("#facts")).to_contain_text("portrait.jpg")


async def test_an_overlay_leaves_the_background_clear(
    page: Page, url: str, engines: FakeEngines
) -> None:
    labels = ("background", *service_fakes.LABELS[1:])
    engines.models = tuple(replace(model, labels=labels) for model in engines.models)
    await page.goto(url)
    await select(page, "Segment")
    await choose(page)
    await expect(page.locator(".region")).to_have_count(2)

    async def alphas() -> list[int]:
        found: list[int] = await page.locator("canvas.regions").evaluate(
            """(canvas) => [0.2, 0.8].map((x) => canvas.getContext("2d").getImageData(
                x * canvas.width, 0.5 * canvas.height, 1, 1).data[3])"""
        )
        return found

    await page.mouse.move(0, 0)
    assert (await alphas())[0] > 100
    assert (await alphas())[1] == 0
    await page.get_by_role("button", name="background").click()
    await page.mouse.move(0, 0)
    assert (await alphas())[1] > 100


async def test_a_task_that_is_off_says_how_to_turn_it_on(page: Page, engines: FakeEngines) -> None:
    engines.models = tuple(m for m in engines.models if m.task is not Task.DETECT)
    async with served(engines, Settings()) as url:
        await page.goto(url)
        await expect(page.get_by_role("tab")).to_have_text(["Classify", "Segment", "Detect"])
        await choose(page)
        await select(page, "Detect")
        await expect(page.locator(".lead")).to_have_text("This service does not detect.")
        command = page.get_by_label("Command that turns it on")
        await expect(command).to_contain_text("--detect-model mask_rcnn_overlock_t")
        await expect(page.get_by_role("button", name="Copy")).to_be_visible()
        await expect(page.locator(".advice")).to_contain_text("with a models file")
        await select(page, "Classify")
        await expect(page.locator(".bar")).to_have_count(4)
        await page.goto("about:blank")


async def test_a_photograph_on_demo_weights_gets_a_muted_answer(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_role("button", name="Star").click()
    await expect(page.locator(".result:not([data-muted])")).to_be_visible()
    await expect(page.locator(".advice")).to_have_count(0)
    lively = await style(page, ".bar", "color")

    await choose(page, portrait())
    await expect(page.locator(".result[data-muted]")).to_be_visible()
    assert await style(page, ".bar", "color") != lively
    note = page.locator(".note")
    await expect(note).to_contain_text("It knows no photographs.")
    command = page.get_by_label("Command that serves a real network")
    await expect(command).to_contain_text("--classify-weights pretrained")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await note.get_by_role("button", name="Copy").click()
    assert await page.evaluate("navigator.clipboard.readText()") == await command.inner_text()
    # A detector with weights of its own is trusted with photographs.
    await select(page, "Detect")
    await expect(page.locator(".result:not([data-muted])")).to_be_visible()
