from __future__ import annotations

import pytest

from service.commands.bench.infer_messages import answer_start, encode_request, raw_outputs
from service.web.grpc.open_inference_pb2 import ModelInferRequest, ModelInferResponse

LONG = bytes(range(256)) * 200


def test_a_request_is_what_protobuf_reads() -> None:
    encoded = encode_request("demo", "image", "BYTES", [1, 300], LONG, ["class_ids", "scores"])
    read = ModelInferRequest.FromString(encoded)
    expected = ModelInferRequest(
        model_name="demo",
        inputs=[ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1, 300])],
        outputs=[
            ModelInferRequest.InferRequestedOutputTensor(name=name)
            for name in ("class_ids", "scores")
        ],
        raw_input_contents=[LONG],
    )
    assert read == expected


def test_the_tensors_of_an_answer_of_protobuf_are_found() -> None:
    answer = ModelInferResponse(
        model_name="demo",
        model_version="4f2a",
        outputs=[ModelInferResponse.InferOutputTensor(name="class_ids", shape=[300])],
        raw_output_contents=[b"first", LONG, b""],
    ).SerializeToString()
    assert raw_outputs(answer) == [b"first", LONG, b""]
    assert answer.startswith(answer_start("demo"))
    assert not answer.startswith(answer_start("demo-segment"))


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"\x32\x05four", b"\x32", b"\x32\xff"],
    ids=["no message", "cut in a value", "cut in a field", "cut in a length"],
)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"wire type|ends within a field"):
        raw_outputs(answer)
