"""A client for the service: ``Client`` and, for asyncio, ``AsyncClient``.

Torch-free and light: it needs httpx and pydantic.
"""

from service.api.schemas import (
    ClassifyResponse,
    DetectResponse,
    EmbedResponse,
    ExplainResponse,
    ProblemDocument,
    SegmentResponse,
    ServedModel,
)
from service.client.async_client import AsyncClient
from service.client.client import Client
from service.client.errors import (
    ClientError,
    ProblemError,
    TooLateError,
    UnexpectedAnswerError,
    UnreachableError,
)

__all__ = [
    "AsyncClient",
    "ClassifyResponse",
    "Client",
    "ClientError",
    "DetectResponse",
    "EmbedResponse",
    "ExplainResponse",
    "ProblemDocument",
    "ProblemError",
    "SegmentResponse",
    "ServedModel",
    "TooLateError",
    "UnexpectedAnswerError",
    "UnreachableError",
]
