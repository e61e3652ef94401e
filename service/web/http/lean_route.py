"""Routes that validate each spelling of their query once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.types import Receive, Scope, Send

    from service.web.pipeline import Pipeline

MAX_SPELLINGS = 256
"""Spellings that a route remembers; it forgets all of them when there is another."""

MAX_SPELLING_BYTES = 512
"""Longest query and Accept header that are remembered."""

TELEMETRY = "fastapi.telemetry"
"""Key of a scope whose request FastAPI makes a span of, which needs FastAPI's own way."""

Spelling = tuple[bytes, ...]


class LeanRoute(APIRoute):
    """A POST route of a task, whose endpoint takes the request, its query and the pipeline.

    All that depends on the query and on the Accept header alone is the same for equal ones: the
    first request of a spelling goes FastAPI's way, by its dependencies, as does every one that is
    refused there, and the next ones find the query validated.

    Source: docs/adr/0041-processor-time-of-an-answer.md.

    What depends on more than that is checked for every request: ``app.state.guards``.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **facts: Any):
        self._queries: dict[Spelling, BaseModel] = {}
        self._plain_endpoint = endpoint

        @wraps(endpoint)
        async def remembering(request: Request, query: BaseModel, pipeline: Pipeline) -> Response:
            self._remember(request.scope, query)
            return await endpoint(request, query, pipeline)

        super().__init__(path, remembering, **facts)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        query = self.known_query(scope)
        if query is None:
            await super().handle(scope, receive, send)
        else:
            await self.answer(scope, receive, send, query)

    def known_query(self, scope: Scope) -> BaseModel | None:
        """Return the validated query of a request; None if it has to go FastAPI's way."""
        query = self._queries.get(_spelling(scope))
        return None if scope["method"] != "POST" or TELEMETRY in scope else query

    async def answer(self, scope: Scope, receive: Receive, send: Send, query: BaseModel) -> None:
        """Answer a request with a known query.

        Raises:
            ServiceError: if it is refused.
        """
        scope["route"] = self
        request = Request(scope, receive, send)
        state = scope["app"].state
        for guard in state.guards:
            await guard(request)
        response = await self._plain_endpoint(request, query, state.pipeline)
        await response(scope, receive, send)

    def _remember(self, scope: Scope, query: BaseModel) -> None:
        spelling = _spelling(scope)
        if sum(map(len, spelling)) > MAX_SPELLING_BYTES:
            return
        if len(self._queries) >= MAX_SPELLINGS:
            self._queries.clear()
        self._queries[spelling] = query


def _spelling(scope: Scope) -> Spelling:
    accepts = [value for name, value in scope["headers"] if name == b"accept"]
    return scope["query_string"], *accepts
