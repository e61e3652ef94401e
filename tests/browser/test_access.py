"""Access by keyboard, screen reader and phone, and in the dark scheme."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from support.page_visitor import choose, select

PHONE_WIDTH, PHONE_HEIGHT = 360, 740


async def focused(page: Page) -> str:
    """Return what has the focus, as a screen reader would name it."""
    name: str = await page.evaluate(
        """() => {
            const { activeElement: at } = document;
            const label = at.labels?.[0]?.textContent ?? at.querySelector("img")?.alt;
            return (at.getAttribute("aria-label") || label || at.textContent).trim();
        }"""
    )
    return name


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_a_keyboard_is_enough(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_role("tab").first.wait_for()
    order = []
    for _ in range(12):
        await press(page, "Tab")
        order.append(await focused(page))
    examples = ["Hexagon", "Star", "Ring", "Heart", "Square", "Crescent"]
    links = ["Skip to the answer", "API", "Models", "Metrics", "Choose an image"]
    assert order == [*links, *examples, "Classify"]

    await press(page, "Shift+Tab", "Enter")
    await expect(page.get_by_role("status")).to_have_text("star, 65.0 %.")
    await press(page, "Tab", "ArrowRight", "Enter")
    await expect(page.get_by_role("status")).to_have_text("circle 50.0 % and star 50.0 %.")
    await press(page, "Tab")
    assert await focused(page) == "Opacity"
    await press(page, "ArrowLeft")
    await expect(page.get_by_label("Opacity")).to_have_attribute("aria-valuetext", "49 %")
    await press(page, "Tab")
    # A scrolling list may be a stop of its own.
    if not (await focused(page)).startswith("circle"):
        await press(page, "Tab")
    await press(page, "Space")
    await expect(page.locator(".region").first).to_have_attribute("aria-pressed", "true")

    await page.locator(".frame").focus()
    await press(page, "ArrowLeft")
    await expect(page.get_by_role("status")).to_have_text("star")
    await press(page, "ArrowRight", "ArrowRight")
    await expect(page.get_by_role("status")).to_have_text("circle")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(chromium: Browser, url: str, scheme: str) -> None:
    # axe is a script of another origin; the page's policy would keep it out.
    context = await chromium.new_context(
        bypass_csp=True,
        color_scheme=scheme,  # type: ignore[arg-type]  # is a literal
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("tab").first.wait_for()
    found = {"empty": await violations(page)}
    await choose(page)
    for task in ("Classify", "Segment", "Detect"):
        await select(page, task)
        await expect(page.locator(".command")).to_be_visible()
        found[task] = await violations(page)
    await choose(page, {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    await page.get_by_role("alert").wait_for()
    found["problem"] = await violations(page)
    await context.close()
    assert found == {state: [] for state in found}


async def violations(page: Page) -> list[str]:
    results = await Axe().run(page)
    return [
        f"{each['id']}: {node['html']}: {node['failureSummary']}"
        for each in results.response["violations"]
        for node in each["nodes"]
    ]


async def test_a_phone_needs_no_sideways_scrolling(page: Page, url: str) -> None:
    await page.set_viewport_size({"width": PHONE_WIDTH, "height": PHONE_HEIGHT})
    await page.goto(url)
    await page.get_by_role("tab").first.wait_for()
    widths = [await page_width(page)]
    await choose(page)
    for task in ("Classify", "Segment", "Detect"):
        await select(page, task)
        await expect(page.locator(".command")).to_be_visible()
        widths.append(await page_width(page))
    await choose(page, {"name": "a" * 90, "mimeType": "text/plain", "buffer": b"no image"})
    await page.get_by_role("alert").wait_for()
    widths.append(await page_width(page))
    assert widths == [PHONE_WIDTH] * 5


async def page_width(page: Page) -> int:
    width: int = await page.evaluate("document.documentElement.scrollWidth")
    return width


async def test_a_dark_room_gets_a_dark_page(page: Page, url: str) -> None:
    lightness = {}
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        await page.goto(url)
        color = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness[scheme] = sum(int(part) for part in color[4:-1].split(",")) / 3
    assert lightness["light"] > 200
    assert lightness["dark"] < 40
