"""Answers of the protocol over REST, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ProtocolDocument(BaseModel):
    """A document whose fields may begin with ``model_``."""

    model_config = ConfigDict(protected_namespaces=())


class ServerLive(ProtocolDocument):
    """Liveness."""

    live: bool


class ServerReady(ProtocolDocument):
    """Readiness."""

    ready: bool


class ModelReady(ProtocolDocument):
    """Readiness of a model."""

    name: str
    ready: bool


class ServerMetadata(ProtocolDocument):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(ProtocolDocument):
    """An input or output; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(ProtocolDocument):
    """A model's inputs and outputs."""

    name: str
    versions: list[str] = Field(description="The first digits of the weights' digest; 0: random.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(ProtocolDocument):
    """An input or output in Triton's configuration."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(ProtocolDocument):
    """A model's configuration as Triton shows it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="0: all dimensions are stated.")
    input: list[TensorConfig]
    output: list[TensorConfig]


class Duration(ProtocolDocument):
    """Calls and their time in all."""

    count: int
    ns: int


class InferenceStatistics(ProtocolDocument):
    """Times of inference, by stage."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class ModelStatistics(ProtocolDocument):
    """One model's statistics."""

    name: str
    version: str = Field(description="The version's digits as a decimal number.")
    last_inference: int
    inference_count: int = Field(
        description="Images answered, each for its task and for its embedding."
    )
    execution_count: int = Field(description="Batches run.")
    inference_stats: InferenceStatistics
    batch_stats: list[dict[str, Any]]


class StatisticsDocument(ProtocolDocument):
    """Statistics since the start of the service, over all HTTP workers and engines."""

    model_stats: list[ModelStatistics]


class OutputDocument(ProtocolDocument):
    """A tensor of an answer: its values, or how many bytes they take behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = Field(default=None, description="Flat, in row order.")


class InferenceResponse(ProtocolDocument):
    """The answer to a call for inference."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputDocument]


class RepositoryModel(ProtocolDocument):
    """A configured model."""

    name: str
    version: str = Field(description="Empty while it is not served.")
    state: str = Field(description="READY or UNAVAILABLE.")
    reason: str = Field(description="Why it is not served, or why its last change failed.")
