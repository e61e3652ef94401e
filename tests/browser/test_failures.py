from __future__ import annotations

import hashlib
from pathlib import Path

from playwright.async_api import Page, expect

from service.api.errors import QueueFullError
from service.settings import Settings
from support.page_visitor import choose
from support.served_app import served
from support.service_fakes import FakeEngines

KEY = "k-3141592653589793"


async def test_a_file_that_is_no_image_is_refused_in_words(page: Page, url: str) -> None:
    await page.goto(url)
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}
    await choose(page, notes)  # type: ignore[arg-type]  # is a FilePayload
    problem = page.get_by_role("alert")
    await expect(problem).to_contain_text("The media type is not supported")
    await expect(problem).to_contain_text("text/plain is not supported; supported are image/jpeg")
    await expect(problem).to_contain_text("Status 415, request ")
    await expect(problem.get_by_role("button")).to_have_count(0)


async def test_what_may_pass_can_be_tried_again(page: Page, url: str, engines: FakeEngines) -> None:
    await page.goto(url)
    engines.error = QueueFullError(waiting=64, limit=64, retry_after_seconds=3.0)
    await choose(page)
    problem = page.get_by_role("alert")
    await expect(problem).to_contain_text("Try again in 3 s.")
    engines.error = None
    await problem.get_by_role("button", name="Try again").click()
    await expect(page.locator(".bar")).to_have_count(4)


async def test_a_key_is_asked_for_and_kept_out_of_the_command(
    page: Page, engines: FakeEngines, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"visitor {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    async with served(engines, Settings(api_keys_file=keys)) as url:
        await page.goto(url)
        field = page.get_by_label("API key")
        await expect(page.get_by_text("This service needs an API key.")).to_be_visible()
        await field.fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("The key is unknown.")
        await field.fill(KEY)
        await page.get_by_role("button", name="Use key").click()
        await choose(page)
        await expect(page.locator(".bar")).to_have_count(4)
        command = await page.locator(".command").inner_text()
        assert '"Authorization: Bearer $KEY"' in command
        assert KEY not in await page.content()
        await page.reload()
        await expect(page.get_by_role("tab").first).to_be_visible()
        await page.goto("about:blank")


async def test_an_engine_that_still_starts_is_waited_for(
    page: Page, url: str, engines: FakeEngines
) -> None:
    engines.ready = False
    await page.goto(url)
    await expect(page.get_by_role("alert")).to_contain_text("The engine is still starting.")
    engines.ready = True
    await expect(page.get_by_role("tab").first).to_be_visible()


async def test_a_body_over_the_limit_is_refused_in_words(page: Page, engines: FakeEngines) -> None:
    async with served(engines, Settings(max_body_bytes=1024)) as url:
        await page.goto(url)
        large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(2_000_000)}
        await choose(page, large)  # type: ignore[arg-type]  # is a FilePayload
        problem = page.get_by_role("alert")
        await expect(problem).to_contain_text("limit")
        await page.goto("about:blank")


async def test_a_service_that_is_gone_is_said_to_be(page: Page, engines: FakeEngines) -> None:
    async with served(engines, Settings()) as url:
        await page.goto(url)
        await page.get_by_role("tab").first.wait_for()
    await choose(page)
    problem = page.get_by_role("alert")
    await expect(problem).to_contain_text("No answer")
    await expect(problem.get_by_role("button", name="Try again")).to_be_visible()
