"""A visitor of the page: choosing, dropping and pasting images."""

from __future__ import annotations

import base64

from playwright.async_api import FilePayload, Page

from model.scenes.scenes import draw_scene
from support.scene_files import png

TIMES = "\N{MULTIPLICATION SIGN}"
HEIGHT, WIDTH = 96, 128
SCENE = png(draw_scene(5, HEIGHT, WIDTH).image)


def scene_file(name: str = "scene.png") -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": SCENE}


async def choose(page: Page, file: FilePayload | None = None) -> None:
    """Choose a file as with the file dialog."""
    await page.get_by_label("Choose an image").set_input_files(file or scene_file())


async def select(page: Page, task: str) -> None:
    await page.get_by_role("tab", name=task).click()


async def hand_over(page: Page, event: str, files: dict[str, bytes]) -> None:
    """Drop or paste files; a browser lets no one else make such an event."""
    await page.evaluate(
        """([event, files]) => {
            const transfer = new DataTransfer();
            for (const [name, base64] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const made = event === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
            document.body.dispatchEvent(made);
        }""",
        [event, {name: base64.b64encode(body).decode() for name, body in files.items()}],
    )
