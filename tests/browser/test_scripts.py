from __future__ import annotations

import numpy as np
from playwright.async_api import Browser, Page
from pycocotools import mask as coco_mask


async def test_run_lengths_are_decoded_as_cocos_own_library_does(page: Page, url: str) -> None:
    rng = np.random.default_rng(0)
    masks, encoded = [], []
    for share in np.linspace(0, 1, 60):
        height, width = rng.integers(1, 90, 2)
        # Coarse blocks make long runs, whose differences are negative and of several characters.
        fine = rng.random((height, width)) < share
        masks.append(np.asfortranarray(fine.repeat(rng.integers(1, 9), 0), dtype=np.uint8))
        counts = coco_mask.encode(masks[-1])["counts"]
        assert isinstance(counts, bytes)
        encoded.append(counts.decode())
    await page.goto(url)
    decoded = await page.evaluate(
        """async (encoded) => {
            const { decodeRunLengths } = await import("/playground/scripts/run_lengths.js");
            return encoded.map(decodeRunLengths);
        }""",
        encoded,
    )
    for mask, runs in zip(masks, decoded, strict=True):
        pixels = np.repeat(np.arange(len(runs)) % 2, runs)
        assert (pixels == mask.ravel(order="F")).all()


async def test_the_policy_keeps_out_styles_and_scripts_that_are_not_the_pages(
    chromium: Browser, url: str
) -> None:
    page = await chromium.new_page()
    await page.goto(url)
    refused = await page.evaluate(
        """async () => {
            const refused = [];
            document.addEventListener("securitypolicyviolation", (event) =>
                refused.push(event.effectiveDirective));
            const style = document.createElement("style");
            style.textContent = "body { display: none }";
            document.head.append(style);
            try {
                document.body.innerHTML = "<img src=x onerror=alert(1)>";
            } catch { /* told by the event */ }
            await fetch("https://example.com/").catch(() => {});
            await new Promise((resolve) => setTimeout(resolve));
            return refused;
        }"""
    )
    assert set(refused) == {"style-src-elem", "require-trusted-types-for", "connect-src"}
    assert await page.evaluate("getComputedStyle(document.body).display") == "block"
    await page.close()
