"""Calls for inference by gRPC, with fake engines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from support.api_requests import JPEG, photo
from support.grpc_calls import GrpcClient, grpc_client, infer_request


async def test_it_is_answered(grpc_calls: GrpcClient, client: httpx.AsyncClient) -> None:
    answer = await grpc_calls.call(infer_request(photo(), top_k=2))
    print(answer, grpc_calls.trailers)
    print(await grpc_calls.call(messages.ServerMetadataRequest()))
    print(await grpc_calls.call(messages.ModelMetadataRequest(name="demo")))
    print(await grpc_calls.call(messages.ModelConfigRequest(name="demo")))
    print(await grpc_calls.call(messages.ModelReadyRequest(name="demo")))
    print(await grpc_calls.failure(messages.ModelReadyRequest(name="demox")))
    print(await grpc_calls.failure(infer_request(bytes(200_000))), grpc_calls.trailers)
    print(await grpc_calls.failure(infer_request(bytes(200))), grpc_calls.trailers)
    assert 0
