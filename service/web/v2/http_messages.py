"""Bodies of inference over REST: JSON, and tensors behind it by the binary extension.

Tensors behind the JSON are Triton's extension, docs/protocol/extension_binary_data.md of
https://github.com/triton-inference-server/server.

Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from starlette.responses import Response

from service.answers.tensors import OutputTensor
from service.api.errors import MalformedRequestError
from service.images.json_images import MAX_FAULT, image_in_text, quotes_in
from service.web.http.negotiation import BYTES, JSON
from service.web.v2.calls import (
    INPUT,
    MAX_SHOWN,
    InferenceCall,
    InputTensor,
    Parameter,
    datatype_of,
    split_elements,
)
from service.web.v2.inference import InferenceAnswer, version_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the bytes of the JSON before binary tensors."""

BINARY_SIZE, BINARY_DATA, BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"

STRIP_VALUES = 2**20
"""Numbers of a tensor that are written as JSON at once."""

_BYTES_PER_LISTED_NUMBER = 8

Parameters = dict[str, Parameter]


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET


class InferenceDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of a call; ``model_name`` and ``model_version`` repeat the path's."""

    inputs: list[_Input]
    id: str | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | msgspec.UnsetType = msgspec.UNSET
    outputs: list[_Output] | msgspec.UnsetType = msgspec.UNSET
    model_name: str | msgspec.UnsetType | None = msgspec.UNSET
    model_version: str | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def decoded_bytes(self) -> int:
        """Upper bound of the memory that the tensors in the JSON take when they are decoded."""
        return sum(
            len(each.data)
            if each.datatype == "BYTES"
            else _BYTES_PER_LISTED_NUMBER * bytes(each.data).count(b",")
            for each in self.inputs
            if isinstance(each.data, msgspec.Raw)
        )

    @property
    def binary_outputs(self) -> dict[str, bool]:
        """Whether an output is sent as binary, by its name; "" for the others.

        Raises:
            MalformedRequestError: if a parameter of an output is unknown or of a wrong type.
        """
        given = _given(self.parameters)
        binary = {"": _switch(given, BINARY_OUTPUT, default=False)}
        for output in _given_list(self.outputs):
            parameters = _given(output.parameters)
            _refuse_others(parameters, (BINARY_DATA,), f"output {output.name[:MAX_SHOWN]}")
            binary[output.name] = _switch(parameters, BINARY_DATA, default=binary[""])
        return binary


def parse_document(body: bytes, header_bytes: int | None) -> InferenceDocument:
    """Parse the JSON of a call, whose tensors stay as they are.

    Args:
        body: complete.
        header_bytes: of the JSON; None if it is the whole body.

    Raises:
        MalformedRequestError: if it is not the JSON of a call.
    """
    text = body if header_bytes is None else body[:header_bytes]
    try:
        document = _DECODER.decode(text.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(
            'The body has to be JSON like {"inputs": [{"name": "image", "datatype": "BYTES", '
            f'"shape": [1], "data": ["<base64>"]}}]}}: {str(error)[:MAX_FAULT]}.'
        ) from error
    if quotes_in(text) > _quotes(document):
        raise MalformedRequestError("The body has a key more than once.")
    return document


_DECODER = msgspec.json.Decoder(InferenceDocument)


def call_of(document: InferenceDocument, tensors: memoryview) -> InferenceCall:
    """Return the call of a document.

    Args:
        document: parsed.
        tensors: the bytes behind it.

    Raises:
        MalformedRequestError: if it cannot be understood.
    """
    inputs, start = [], 0
    for each in document.inputs:
        values, size = _values_of(each, tensors[start:])
        inputs.append(InputTensor(each.name, each.datatype, each.shape, values))
        start += size
    if start != len(tensors):
        raise MalformedRequestError(
            f"{len(tensors)} bytes follow the JSON; its inputs have {BINARY_SIZE} {start} in all."
        )
    given = _given(document.parameters)
    return InferenceCall(
        id=document.id if isinstance(document.id, str) else "",
        parameters={name: value for name, value in given.items() if name != BINARY_OUTPUT},
        inputs=inputs,
        outputs=[each.name for each in _given_list(document.outputs)],
    )


def _values_of(
    each: _Input, tensors: memoryview
) -> tuple[Sequence[bytes] | NDArray[np.uint8], int]:
    """Return the values of an input, and how many bytes behind the JSON they take."""
    datatype = datatype_of(each.name, each.datatype)
    parameters = _given(each.parameters)
    _refuse_others(parameters, (BINARY_SIZE,), f"input {INPUT}")
    if BINARY_SIZE not in parameters:
        if not isinstance(each.data, msgspec.Raw):
            raise MalformedRequestError(f"Input {INPUT} has neither data nor {BINARY_SIZE}.")
        return (_texts if datatype == "BYTES" else _numbers)(each.data), 0
    size = parameters[BINARY_SIZE]
    if isinstance(each.data, msgspec.Raw):
        raise MalformedRequestError(f"Input {INPUT} has both data and {BINARY_SIZE}; send one.")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tensors):
        raise MalformedRequestError(
            f"Input {INPUT} has {BINARY_SIZE} {str(size)[:MAX_SHOWN]}; {len(tensors)} bytes follow "
            f"the JSON, whose own length has to be in the header {HEADER_LENGTH}."
        )
    raw = tensors[:size]
    if datatype == "BYTES":
        return split_elements(raw, INPUT), size
    return np.frombuffer(raw, np.uint8), size


def _texts(data: msgspec.Raw) -> list[bytes]:
    try:
        texts = msgspec.json.decode(data, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequestError(
            f"Input {INPUT}: data has to be a list of base64 texts: {str(error)[:MAX_FAULT]}."
        ) from error
    return [
        image_in_text(text, f"Input {INPUT}: element {place}")[0]
        for place, text in enumerate(texts)
    ]


_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


def _numbers(data: msgspec.Raw) -> NDArray[np.uint8]:
    nested = bytes(data).lstrip(b" \t\r\n[")  # as many brackets open as there are dimensions
    depth = bytes(data)[: len(bytes(data)) - len(nested)].count(b"[")
    kind: Any = _Byte
    for _ in range(4 if depth > 1 else 1):
        kind = list[kind]
    try:
        return np.array(msgspec.json.decode(data, type=kind), np.uint8).reshape(-1)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise MalformedRequestError(
            f"Input {INPUT}: data has to be the pixels' values from 0 to 255, flat or nested as "
            f"the shape says: {str(error)[:MAX_FAULT]}."
        ) from error


def _given(parameters: Parameters | msgspec.UnsetType) -> Parameters:
    return parameters if isinstance(parameters, dict) else {}


def _given_list(outputs: list[_Output] | msgspec.UnsetType) -> list[_Output]:
    return outputs if isinstance(outputs, list) else []


def _refuse_others(parameters: Parameters, known: Sequence[str], place: str) -> None:
    for name in parameters:
        if name not in known:
            raise MalformedRequestError(
                f"There is no parameter {name[:MAX_SHOWN]!r} of {place}; there is {known[0]}."
            )


def _switch(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedRequestError(f"Parameter {name} has to be true or false.")
    return value


def _quotes(value: Any) -> int:
    """Count the quotes of a parsed value where no key was given twice."""
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return _quotes({name: each for name, each in fields.items() if each is not msgspec.UNSET})
    if isinstance(value, dict):
        return sum(2 + _quotes(each) for each in value.values())
    if isinstance(value, list):
        return sum(map(_quotes, value))
    if isinstance(value, msgspec.Raw):
        return quotes_in(bytes(value))
    return 2 if isinstance(value, str) else 0


def response_of(answer: InferenceAnswer, binary_outputs: dict[str, bool]) -> Response:
    """Write an answer; ``binary_outputs`` are the document's."""
    head = {"model_name": answer.model.name, "model_version": version_of(answer.model)}
    if answer.id:
        head["id"] = answer.id
    outputs, tensors = [], []
    for each in answer.outputs:
        described: dict[str, Any] = {
            "name": each.name,
            "datatype": each.datatype,
            "shape": each.shape,
        }
        if binary_outputs.get(each.name, binary_outputs[""]):
            tensors.append(each.raw())
            described["parameters"] = {BINARY_SIZE: len(tensors[-1])}
        else:
            described["data"] = _json_of(each)
        outputs.append(described)
    text = msgspec.json.encode({**head, "outputs": outputs})
    if not tensors:
        return Response(text, media_type=JSON)
    return Response(
        b"".join([text, *tensors]), media_type=BYTES, headers={HEADER_LENGTH: str(len(text))}
    )


def _json_of(tensor: OutputTensor) -> msgspec.Raw | list[str]:
    """Write a tensor's values, flat in row order."""
    if isinstance(tensor.values, list):
        return [each.decode() for each in tensor.values]
    flat = tensor.values.reshape(-1)
    strips = [
        msgspec.json.encode(flat[start : start + STRIP_VALUES].tolist())[1:-1]
        for start in range(0, len(flat), STRIP_VALUES)
    ]
    return msgspec.Raw(b"[%b]" % b",".join(strips))
