from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.errors import MalformedRequestError
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.wire import MAX_FIELDS, MAX_LISTED_BYTES, check_wire
from support.grpc_calls import infer_request, pixel_request

SIZE = 20 * 2**20


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes((*parts, value))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def check(body: bytes, message: type[Message] = messages.ModelInferRequest) -> None:
    check_wire(message.DESCRIPTOR, body)  # type: ignore[arg-type]  # protobuf has two kinds


@pytest.mark.parametrize(
    "body",
    [
        b"\x2a\x00" * (SIZE // 2),  # inputs
        b"\x32\x00" * (SIZE // 2),  # outputs
        b"\x3a\x00" * (SIZE // 2),  # raw_input_contents
        field(5, field(5, b"\x42\x00" * (SIZE // 2))),  # bytes_contents
        field(5, field(5, field(4, bytes(SIZE)))),  # uint_contents
        field(5, field(5, field(3, bytes(SIZE)))),  # int64_contents
        field(5, field(3, bytes(SIZE))),  # shape
        field(5, b"\x18\x01" * (SIZE // 2)),  # shape, not packed
        b"\x78\x01" * (SIZE // 2),  # a field that nobody knows
    ],
    ids=["inputs", "outputs", "raw", "bytes", "uint", "int64", "shape", "unpacked", "unknown"],
)
def test_a_message_that_would_grow_is_refused_without_memory(body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(MalformedRequestError, match=f"more than ({MAX_FIELDS}|{MAX_LISTED_BYTES})"):
        check(body)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_calls_of_every_form_pass() -> None:
    pixels = np.zeros((1, 600, 600, 3), np.uint8)
    requests = [
        infer_request(*[b"file"] * 64, top_k=3, layer="head", normalize=True, timeout=2**40),
        infer_request(*[b"file"] * 64, raw=False),
        pixel_request(pixels),
        pixel_request(pixels, raw=False),
    ]
    for request in requests:
        check(request.SerializeToString())


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",  # no length
        b"\x0a\x05abcd",  # shorter than its length
        b"\x0a" + b"\xff" * 11,  # a number without an end
        b"\x2a\x02\x0a\x05",  # within an input
        b"\x0b\x0c",  # a group, which the protocol does not have
        b"\x21\x00\x00",  # a number of eight bytes
        b"\x0f",  # no kind of field
    ],
)
def test_damaged_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="damaged"):
        check(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_what_protobuf_reads_passes_unless_it_has_groups(body: bytes) -> None:
    try:
        messages.ModelInferRequest.FromString(body)
    except DecodeError:
        return
    try:
        check(body)
    except MalformedRequestError:
        assert any(byte & 7 in {3, 4} for byte in body)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_call_raises_nothing_else(data: st.DataObject) -> None:
    body = bytearray(infer_request(b"file", top_k=3).SerializeToString())
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.integers(0, 255))
    try:
        check(bytes(body))
    except MalformedRequestError:
        return
