from __future__ import annotations

import json
import struct

import pytest

from benchmarks.serving.infer_payload import (
    first_tensor_of_grpc,
    first_tensor_of_rest,
    infer_payloads,
)
from benchmarks.serving.payload import Payload

DRAWN = [Payload(b"red", 7), Payload(b"green", 8), Payload(b"blue", 9)]
TWO_ROWS = struct.pack("<4q", 8, 1, 9, 2)


def rest_answer(name: str, tensor: bytes) -> bytes:
    output = {
        "name": name,
        "datatype": "INT64",
        "shape": [2, 2],
        "parameters": {"binary_data_size": len(tensor)},
    }
    return json.dumps({"model_name": "é", "outputs": [output]}).encode() + tensor + b"scores"


def grpc_answer(*tensors: bytes) -> bytes:
    raw = b"".join(b"\x32" + bytes([len(each)]) + each for each in tensors)
    return b"\x0a\x04demo" + raw


def test_each_call_begins_with_another_image_and_repeats_them() -> None:
    calls = infer_payloads(DRAWN, 4, first_tensor_of_rest)
    assert [call.class_ids for call in calls] == [(7, 8, 9, 7), (8, 9, 7, 8), (9, 7, 8, 9)]
    assert calls[0].body == b"\x03\0\0\0red\x05\0\0\0green\x04\0\0\0blue\x03\0\0\0red"


def test_an_image_without_a_known_class_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be checked"):
        infer_payloads([Payload(b"red", None)], 1, first_tensor_of_rest)


def test_an_answer_with_binary_tensors_is_checked_row_by_row() -> None:
    _, call, _ = infer_payloads(DRAWN, 2, first_tensor_of_rest)
    assert call.is_answered_by(rest_answer("class_ids", TWO_ROWS))
    assert not call.is_answered_by(rest_answer("class_ids", struct.pack("<4q", 9, 1, 8, 2)))
    assert not call.is_answered_by(rest_answer("class_ids", b""))
    assert not call.is_answered_by(rest_answer("scores", TWO_ROWS))
    assert not call.is_answered_by(b'{"outputs": []}')
    assert not call.is_answered_by(b"<html>")


def test_an_answer_of_grpc_is_checked_row_by_row() -> None:
    _, call, _ = infer_payloads(DRAWN, 2, first_tensor_of_grpc)
    assert call.is_answered_by(grpc_answer(TWO_ROWS, b"scores"))
    assert not call.is_answered_by(grpc_answer(TWO_ROWS[::-1]))
    assert not call.is_answered_by(grpc_answer())
    assert not call.is_answered_by(grpc_answer(TWO_ROWS)[:-1])
