"""Assembly of the HTTP worker's application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Mount, Route

from service import tracing
from service.link.pool import Generations
from service.processes.model_control import ModelControl
from service.settings import Settings
from service.web.http.api_keys import ApiKeys, check_key, require_key
from service.web.http.cross_origin import CrossOriginMiddleware
from service.web.http.lean_route import LeanRoute
from service.web.http.middleware import RequestMiddleware, RequestsUnderWay
from service.web.http.negotiation import refuse_repeated_parameters
from service.web.http.openapi import DESCRIPTION, TAGS, ApiDocument
from service.web.http.problems import install_problem_handlers
from service.web.http.root_path import RootPathMiddleware
from service.web.pipeline import Pipeline
from service.web.routes import (
    classify,
    detect,
    embed,
    embeddings,
    explain,
    health,
    models,
    segment,
)
from service.web.routes.playground import playground_router
from service.web.v2 import repository
from service.web.v2 import routes as v2

API_VERSION = "1"

TASKS = (classify, segment, detect, embed, explain)
"""The tasks' routes, those that are called most first."""

TRACED = re.compile(r"/v1/|/v2(?!/health/)(/|$)")
"""Paths whose requests have a span."""


def create_app(settings: Settings, generations: Generations, control: ModelControl) -> FastAPI:
    """Build the application.

    Args:
        settings: of the service.
        generations: connected while the application runs.
        control: loads and unloads models.

    Raises:
        SettingsError: if the file with the API keys cannot be read.
    """
    pipeline = Pipeline(settings, generations)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        link = asyncio.create_task(generations.run())
        try:
            yield
        finally:
            link.cancel()
            with suppress(asyncio.CancelledError):
                await link
            pipeline.close()

    # FastAPIOffline serves the documentation's scripts itself, so that it works without internet.
    app: FastAPI = FastAPIOffline(
        title="overlock-service",
        summary="OverLoCK, overview first, look closely next, over HTTP.",
        description=DESCRIPTION,
        version=API_VERSION,
        openapi_tags=TAGS,
        servers=[{"url": settings.root_path or "/"}],
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        # A redirect would lose the body, and name this host where a proxy is in front of it.
        redirect_slashes=False,
        # FastAPI makes the span of an API request. service.tracing adds the spans within it and
        # decides whether tracing is on; metrics and logs have files of their own.
        telemetry={
            "tracing": tracing.provider() is not None,
            "tracer_provider": tracing.provider(),
            "exclude": lambda scope: (
                TRACED.match(scope["path"].removeprefix(scope["root_path"])) is None
            ),
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
        },
    )
    app.state.pipeline = pipeline
    app.state.control = control
    app.state.guards = []
    guards = []
    if settings.api_keys_file is not None:
        app.state.api_keys = ApiKeys(settings.api_keys_file)
        app.state.guards.append(check_key)
        guards.append(Depends(require_key))
    guards.append(Depends(refuse_repeated_parameters))
    api = (*TASKS[1:], embeddings, models, v2, repository)
    # Routes are tried in this order: those that are called most come first.
    for router in (classify.router, v2.infer_router, *(module.router for module in api)):
        app.include_router(router, dependencies=guards)
    # Before those of the documentation, which FastAPI has put first.
    app.router.routes[:] = sorted(
        app.router.routes, key=lambda route: isinstance(route, Mount | Route)
    )
    app.include_router(health.router)
    app.include_router(v2.health_router)
    app.include_router(playground_router())
    app.openapi = ApiDocument(app, settings, generations)  # type: ignore[method-assign]
    install_problem_handlers(app)
    if settings.root_path is not None:
        app.add_middleware(RootPathMiddleware, root_path=settings.root_path)
    app.state.under_way = RequestsUnderWay()
    # A path is whole there only without a prefix.
    routes = _lean_routes() if settings.root_path is None else {}
    app.add_middleware(RequestMiddleware, under_way=app.state.under_way, routes=routes)
    if settings.cors_origins is not None:
        # Around the rest: a page can read an unforeseen 500 too.
        app.add_middleware(CrossOriginMiddleware, origins=settings.cors_origins.split(","))
    return app


def _lean_routes() -> dict[str, LeanRoute]:
    routes = (route for module in TASKS for route in module.router.routes)
    return {route.path: route for route in routes if isinstance(route, LeanRoute)}
