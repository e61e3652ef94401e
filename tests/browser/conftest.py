"""A real Chromium in front of the real application, with engines that a test controls.

All of it, the service too, runs in one event loop that lasts for the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from service.settings import Settings
from support.served_app import served
from support.service_fakes import FakeEngines

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing; apt-get install chromium")
    return CHROMIUM


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(chromium_path: Path) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest_asyncio.fixture(loop_scope="session")
async def url(engines: FakeEngines) -> AsyncIterator[str]:
    async with served(
        engines, Settings(detect_model="mask_rcnn_overlock_xt", detect_weights="x.pth")
    ) as address:
        yield address


@dataclass
class Watched:
    """Errors and requests of a browser.

    Attributes:
        messages: errors of scripts and of the console; the security policy's are among them.
        requests: addresses that were requested.
    """

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Record the errors and requests of a context."""
        context.on("console", self._note)
        context.on("weberror", lambda error: self.messages.append(str(error.error)))
        context.on("request", lambda request: self.requests.append(request.url))

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium itself reports every refused request.
        refused = message.text.startswith("Failed to load resource")
        if message.type == "error" and not refused:
            self.messages.append(message.text)


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A page whose scripts must not fail, break a policy, or call another host."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    watched = Watched()
    watched.watch(context)
    page = await context.new_page()
    yield page
    await context.close()
    assert watched.messages == []
    assert [url for url in watched.requests if not is_local(url)] == []


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:"))
