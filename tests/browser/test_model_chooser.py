from __future__ import annotations

from msgspec.structs import replace
from playwright.async_api import Page, Request, expect

from support.page_visitor import choose, select
from support.service_fakes import CLASSIFIER, DETECTOR, SEGMENTER, FakeEngines

BIRDS = replace(
    CLASSIFIER, name="birds", weights="birds.pth", labels=("wren", "rook", "kite", "coot")
)


def asked_models(requests: list[Request]) -> list[str]:
    return [request.url.rpartition("?")[2] for request in requests]


async def test_a_task_with_one_model_offers_no_choice(page: Page, url: str) -> None:
    await page.goto(url)
    await expect(page.get_by_role("tab", name="Classify")).to_be_visible()
    await expect(page.get_by_label("Model", exact=True)).to_be_hidden()


async def test_another_model_of_the_task_is_asked_about_the_same_image(
    page: Page, url: str, engines: FakeEngines
) -> None:
    engines.models = (CLASSIFIER, BIRDS, SEGMENTER, DETECTOR)
    requests: list[Request] = []
    page.on(
        "request", lambda request: requests.append(request) if request.method == "POST" else None
    )
    await page.goto(url)
    await choose(page)
    await expect(page.get_by_role("status")).to_have_text("star, 65.0 %.")
    chooser = page.get_by_label("Model", exact=True)
    assert await chooser.locator("option").all_inner_texts() == ["demo (default)", "birds"]
    await chooser.select_option("birds")
    await expect(page.get_by_role("status")).to_have_text("kite, 65.0 %.")
    await expect(page.locator("#panel")).to_contain_text("birds.pth")
    await select(page, "Segment")
    await expect(chooser).to_be_hidden()
    await select(page, "Classify")
    await expect(chooser).to_have_value("birds")
    # The default model is asked as by those who know of no other one.
    assert ["model=" in each for each in asked_models(requests)] == [False, True, False]


async def test_a_model_that_a_reload_took_away_can_be_replaced(
    page: Page, url: str, engines: FakeEngines
) -> None:
    engines.models = (CLASSIFIER, BIRDS)
    await page.goto(url)
    chooser = page.get_by_label("Model", exact=True)
    await chooser.select_option("birds")
    engines.models = (CLASSIFIER, replace(BIRDS, name="moths"))
    await choose(page)
    await expect(page.get_by_role("alert")).to_contain_text("There is no model 'birds'")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("status")).to_have_text("star, 65.0 %.")
    assert await chooser.locator("option").all_inner_texts() == ["demo (default)", "moths"]
