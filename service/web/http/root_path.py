"""The path below which a proxy offers the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """Middleware that takes paths with a prefix and without it, as proxies strip it or do not.

    Inside, a path has the prefix, as ASGI's ``root_path`` demands.

    Args:
        app: the application inside.
        root_path: such as ``/overlock``.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["root_path"] = self._root_path
        if scope["path"] == self._root_path:
            # The page's links are relative to a folder.
            await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
            return
        if not scope["path"].startswith(f"{self._root_path}/"):
            scope["path"] = self._root_path + scope["path"]
        await self._app(scope, receive, send)
