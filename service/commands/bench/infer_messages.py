"""The two messages of a gRPC inference call, in protobuf's wire format.

A load generator encodes a request once and looks into an answer's first tensor: for that it needs
neither generated code nor protobuf.

Source: https://github.com/kserve/open-inference-protocol for the fields' numbers, and
https://protobuf.dev/programming-guides/encoding for their encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LENGTH_DELIMITED = 2
"""Wire type of strings, bytes, messages and packed numbers."""

REQUEST_MODEL_NAME, REQUEST_INPUTS, REQUEST_OUTPUTS, REQUEST_RAW_INPUTS = 1, 5, 6, 7
TENSOR_NAME, TENSOR_DATATYPE, TENSOR_SHAPE = 1, 2, 3
"""Of an input; a requested output's name has the same number."""

ANSWER_MODEL_NAME, ANSWER_RAW_OUTPUTS = 1, 6


def encode_request(
    model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes, outputs: Sequence[str]
) -> bytes:
    """Return a ModelInferRequest with one input.

    Args:
        model: its name.
        name: of the input.
        datatype: of the input, such as "BYTES".
        shape: of the input.
        raw: its elements, as in the binary tensor extension.
        outputs: names of the requested outputs.
    """
    tensor = (
        _field(TENSOR_NAME, name.encode())
        + _field(TENSOR_DATATYPE, datatype.encode())
        + _field(TENSOR_SHAPE, b"".join(map(_varint, shape)))
    )
    return b"".join(
        [
            _field(REQUEST_MODEL_NAME, model.encode()),
            _field(REQUEST_INPUTS, tensor),
            *(_field(REQUEST_OUTPUTS, _field(TENSOR_NAME, each.encode())) for each in outputs),
            _field(REQUEST_RAW_INPUTS, raw),
        ]
    )


def answer_start(model: str) -> bytes:
    """Return the first bytes of every ModelInferResponse of a model."""
    return _field(ANSWER_MODEL_NAME, model.encode())


def raw_outputs(answer: bytes) -> list[bytes]:
    """Return the tensors of a ModelInferResponse, in the order of its outputs.

    Raises:
        ValueError: if it is no such message.
    """
    try:
        return [value for number, value in _fields(answer) if number == ANSWER_RAW_OUTPUTS]
    except IndexError as error:
        raise ValueError("the message ends within a field") from error


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the fields' numbers and values; the answer has no others than length-delimited ones.

    Raises:
        ValueError: if it has.
        IndexError: if the message ends within a number.
    """
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        if tag & 7 != LENGTH_DELIMITED:
            raise ValueError(f"field {tag >> 3} has wire type {tag & 7}")
        length, position = _read_varint(message, position)
        yield tag >> 3, message[position : position + length]
        position += length
    if position > len(message):
        raise IndexError


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
