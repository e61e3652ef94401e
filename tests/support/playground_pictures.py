"""Makes the playground's pictures: ``python tests/support/playground_pictures.py examples|front``.

``examples`` draws the images that the page offers; ``front`` takes the README's picture of the
page, from the real service with the demo models.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from model.scenes.scenes import CLASS_NAMES, Scene, draw_scene
from support.running_service import RunningService

ROOT = Path(__file__).parents[2]
EXAMPLES_DIR = ROOT / "service/web/playground/examples"
FRONT = ROOT / "docs/images/playground.png"
HEIGHT, WIDTH = 480, 640

SEEDS = {
    "hexagon": 800_900,
    "star": 800_304,
    "ring": 800_508,
    "heart": 800_713,
    "square": 800_133,
    "crescent": 800_613,
}
"""Seeds of the examples, by their main shape; chosen among many that the demo models get right."""


def example_scene(name: str) -> Scene:
    """Draw an example anew."""
    return draw_scene(SEEDS[name], HEIGHT, WIDTH, CLASS_NAMES.index(name))


def draw_examples() -> None:
    """Write the examples as small files."""
    for name in SEEDS:
        image = Image.fromarray(example_scene(name).image)
        image.save(EXAMPLES_DIR / f"{name}.webp", "WEBP", quality=80, method=6)


def photograph_front() -> None:
    """Segment an example on the page and write what is seen."""
    with RunningService() as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 840})
        page.goto(service.url)
        _segment(page)
        screenshot = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(screenshot)) as image:
        image.convert("RGB").save(FRONT, optimize=True)


def _segment(page: Page) -> None:
    page.get_by_role("tab", name="Segment").click()
    page.get_by_role("button", name="Hexagon").click()
    page.locator(".region").first.wait_for()
    frame = page.locator(".frame").bounding_box()
    assert frame
    page.mouse.move(frame["x"] + 0.42 * frame["width"], frame["y"] + 0.3 * frame["height"])
    page.locator(".probe").wait_for()
    page.wait_for_timeout(500)  # until the corners have changed their colour


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["examples", "front"])
    {"examples": draw_examples, "front": photograph_front}[parser.parse_args().what]()
