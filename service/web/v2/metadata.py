"""Descriptions of the server and of its models in the protocol's words."""

from __future__ import annotations

from service.answers.tensors import OUTPUTS, TensorInfo
from service.link.messages import ModelInfo
from service.release import release
from service.web.v2.calls import INPUT
from service.web.v2.documents import (
    ModelConfig,
    ModelMetadata,
    ServerMetadata,
    TensorConfig,
    TensorMetadata,
)
from service.web.v2.inference import version_of

SERVER_NAME = "overlock-service"

EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
]
"""Triton's names of the extensions that are served."""

PLATFORM, BACKEND = "pytorch_overlock", "overlock"

IMAGES = TensorInfo(INPUT, "BYTES", (-1,))
"""The input of every model: encoded images. Decoded ones, UINT8 [-1, -1, -1, 3], are taken too."""

_TRITON_TYPES = {"BYTES": "TYPE_STRING"}
"""Triton's names in a configuration, where they are not TYPE and the protocol's."""


def server_metadata() -> ServerMetadata:
    """Name the server and its extensions."""
    return ServerMetadata(name=SERVER_NAME, version=release(), extensions=EXTENSIONS)


def model_metadata(model: ModelInfo) -> ModelMetadata:
    """List a model's inputs and outputs."""
    return ModelMetadata(
        name=model.name,
        versions=[version_of(model)],
        platform=PLATFORM,
        inputs=[_metadata(IMAGES)],
        outputs=[_metadata(each) for each in OUTPUTS[model.task]],
    )


def model_config(model: ModelInfo) -> ModelConfig:
    """Describe a model as Triton's configuration does."""
    return ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=0,
        input=[_config(IMAGES)],
        output=[_config(each) for each in OUTPUTS[model.task]],
    )


def _metadata(tensor: TensorInfo) -> TensorMetadata:
    return TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))


def _config(tensor: TensorInfo) -> TensorConfig:
    datatype = _TRITON_TYPES.get(tensor.datatype, f"TYPE_{tensor.datatype}")
    return TensorConfig(name=tensor.name, data_type=datatype, dims=list(tensor.shape))
