from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.settings import Settings
from support.grpc_calls import GrpcClient, grpc_client
from support.service_fakes import FakeEngines, fake_app


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines()


@pytest.fixture
def settings() -> Settings:
    return Settings(max_body_bytes=100_000, max_image_pixels=1_000_000)


@pytest.fixture
def app(settings: Settings, engines: FakeEngines) -> FastAPI:
    return fake_app(settings, engines)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
async def grpc_calls(app: FastAPI, settings: Settings) -> AsyncIterator[GrpcClient]:
    async with grpc_client(app, settings) as client:
        yield client
