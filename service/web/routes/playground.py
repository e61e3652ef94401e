"""``GET /`` and the files of that page, read once and served from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

FOLDER = Path(__file__).parents[1] / "playground"
PAGE = "index.html"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}

SECURITY_HEADERS = {
    # The page runs only its own scripts, calls only this service, and parses no strings as HTML.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page.

    Attributes:
        body: its bytes.
        headers: of the response.
    """

    body: bytes
    headers: Mapping[str, str]


def read_files(folder: Path) -> dict[str, PageFile]:
    """Read every file of the page.

    Args:
        folder: of the page.

    Returns:
        The files by their paths in the folder.
    """
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    headers = {
        "Content-Type": MEDIA_TYPES[path.suffix],
        # Of the content: the same on every replica, another after every change.
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        # Revalidated each time, mostly with 304: a page never runs scripts of another version.
        "Cache-Control": "no-cache",
    }
    return PageFile(body, headers | SECURITY_HEADERS)


def playground_router() -> APIRouter:
    """Return the page's routes."""
    router = APIRouter()
    files = read_files(FOLDER)

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        """Answer with the page."""
        return _answer(request, files[PAGE])

    @router.get("/playground/{path:path}", include_in_schema=False)
    async def page_file(request: Request, path: str) -> Response:
        """Answer with a script, a style, a picture or a font of the page."""
        if path == PAGE or path not in files:
            raise HTTPException(404, "the page has no such file")
        return _answer(request, files[path])

    return router


def _answer(request: Request, file: PageFile) -> Response:
    header = request.headers.get("if-none-match", "")
    known_tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    if file.headers["ETag"] in known_tags:
        return Response(status_code=304, headers=file.headers)
    return Response(file.body, headers=file.headers)
