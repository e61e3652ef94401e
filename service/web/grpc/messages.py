"""Translation between the messages of gRPC and the protocol's calls and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import Message

from service.api.errors import MalformedRequestError
from service.web.grpc.open_inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
)
from service.web.v2.calls import (
    INPUT,
    MAX_SHOWN,
    InferenceCall,
    InputTensor,
    Parameter,
    datatype_of,
    split_elements,
)
from service.web.v2.documents import ProtocolDocument
from service.web.v2.http_messages import BINARY_DATA, BINARY_SIZE
from service.web.v2.inference import InferenceAnswer, version_of

if TYPE_CHECKING:
    from typing import TypeVar

    from numpy.typing import NDArray

    MessageT = TypeVar("MessageT", bound=Message)
    Tensor = ModelInferRequest.InferInputTensor

LISTED_BYTES = 8
"""Most memory that a number in typed contents takes."""

CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}
"""Typed contents by the type of a tensor."""


FINAL_RESPONSE = "triton_enable_empty_final_response"
"""Parameter about streams that Triton's C++ client, and so perf_analyzer, gives with every call."""


def decoded_bytes(request: ModelInferRequest) -> int:
    """Return an upper bound of the memory that the tensors of a request take when taken out."""
    listed = sum(len(tensor.contents.uint_contents) for tensor in request.inputs)
    texts = (each for tensor in request.inputs for each in tensor.contents.bytes_contents)
    return sum(map(len, (*request.raw_input_contents, *texts))) + LISTED_BYTES * listed


def call_of(request: ModelInferRequest) -> InferenceCall:
    """Return the call in a request.

    Raises:
        MalformedRequestError: if it cannot be understood.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise MalformedRequestError(
            f"The call has {len(request.inputs)} inputs and {len(raws)} raw_input_contents; there "
            "has to be one for each."
        )
    inputs = []
    for place, tensor in enumerate(request.inputs):
        values = _raw_values(tensor, raws[place]) if raws else _typed_values(tensor)
        repeated = {BINARY_SIZE: len(raws[place])} if raws else {}
        _check_parameters(tensor.parameters, repeated, f"input {tensor.name[:MAX_SHOWN]!r}")
        inputs.append(InputTensor(tensor.name, tensor.datatype, list(tensor.shape), values))
    for output in request.outputs:
        _check_parameters(
            output.parameters, {BINARY_DATA: True}, f"output {output.name[:MAX_SHOWN]!r}"
        )
    return InferenceCall(
        id=request.id,
        parameters={
            name: _value_of(name, each)
            for name, each in request.parameters.items()
            if name != FINAL_RESPONSE
        },
        inputs=inputs,
        outputs=[output.name for output in request.outputs],
    )


def response_of(answer: InferenceAnswer) -> ModelInferResponse:
    """Return an answer's message; the tensors are raw, in the order of the outputs."""
    outputs = [
        ModelInferResponse.InferOutputTensor(
            name=each.name, datatype=each.datatype, shape=each.shape
        )
        for each in answer.outputs
    ]
    return ModelInferResponse(
        model_name=answer.model.name,
        model_version=version_of(answer.model),
        id=answer.id,
        outputs=outputs,
        raw_output_contents=[each.raw() for each in answer.outputs],
    )


def message_of(kind: type[MessageT], document: ProtocolDocument) -> MessageT:
    """Return a document of REST as the message whose fields have the same names."""
    return kind(**document.model_dump())


def _raw_values(tensor: Tensor, raw: bytes) -> Sequence[bytes] | NDArray[np.uint8]:
    if tensor.HasField("contents"):
        raise MalformedRequestError(
            f"Input {INPUT} has both contents and raw_input_contents; send one."
        )
    if datatype_of(tensor.name, tensor.datatype) == "BYTES":
        return split_elements(memoryview(raw), INPUT)
    return np.frombuffer(raw, np.uint8)


def _typed_values(tensor: Tensor) -> Sequence[bytes] | NDArray[np.uint8]:
    datatype = datatype_of(tensor.name, tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if field.name != CONTENTS[datatype]:
            raise MalformedRequestError(
                f"Input {INPUT} is {datatype}, whose contents are {CONTENTS[datatype]}; it has "
                f"{field.name}."
            )
    if datatype == "BYTES":
        return list(tensor.contents.bytes_contents)
    numbers = np.array(tensor.contents.uint_contents, np.uint32)
    if len(numbers) and numbers.max() > np.iinfo(np.uint8).max:
        raise MalformedRequestError(f"Input {INPUT}: UINT8 values have to be 0 to 255.")
    return numbers.astype(np.uint8)


def _check_parameters(
    parameters: Mapping[str, InferParameter], expected: Mapping[str, Parameter], place: str
) -> None:
    """Check parameters of a tensor, which KServe's client sends by gRPC as it does by REST."""
    for name, parameter in parameters.items():
        if name not in expected:
            raise MalformedRequestError(
                f"There is no parameter {name[:MAX_SHOWN]!r} of {place}; there is "
                f"{', '.join(expected) or 'none'}."
            )
        value = _value_of(name, parameter)
        if value != expected[name]:
            raise MalformedRequestError(
                f"Parameter {name} of {place} is {str(value)[:MAX_SHOWN]}; by gRPC it can only be "
                f"{expected[name]}."
            )


def _value_of(name: str, parameter: InferParameter) -> Parameter:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise MalformedRequestError(f"Parameter {name[:MAX_SHOWN]!r} has no value.")
    value: Parameter = getattr(parameter, choice)
    return value
