"""Calls for inference by gRPC, with fake engines: numbers, forms, and what is refused."""

from __future__ import annotations

import base64
import re
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from service.api.errors import (
    DeadlineExceededError,
    DeadlineUnreachableError,
    InferenceError,
    NotReadyError,
)
from service.web.grpc import open_inference_pb2 as messages
from support.api_requests import photo
from support.grpc_calls import GrpcClient, infer_request, pixel_request, tensors_of
from support.service_fakes import DETECTOR, FakeEngines

Code = grpc.StatusCode

OUTPUTS = {
    "demo": ["class_ids", "scores", "labels", "logits", "embedding"],
    "demo-segment": ["label_map", "class_ids", "fractions", "embedding"],
    DETECTOR.name: ["boxes", "scores", "class_ids", "labels", "masks", "embedding"],
}


@pytest.mark.parametrize("model", OUTPUTS)
async def test_every_output_has_the_numbers_of_rest(
    grpc_calls: GrpcClient, client: httpx.AsyncClient, model: str
) -> None:
    request = infer_request(photo(), model=model)
    for name in OUTPUTS[model]:
        request.outputs.add(name=name)
    answer = await grpc_calls.call(request)
    document = {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(photo()).decode()],
            }
        ],
        "outputs": [{"name": name} for name in OUTPUTS[model]],
    }
    rest = (await client.post(f"/v2/models/{model}/infer", json=document)).json()
    assert (answer.model_name, answer.model_version) == (rest["model_name"], rest["model_version"])
    found = tensors_of(answer)
    for want, output in zip(rest["outputs"], answer.outputs, strict=True):
        assert (output.name, output.datatype) == (want["name"], want["datatype"])
        assert list(output.shape) == want["shape"]
        values = found[output.name]
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(values, np.array(want["data"], values.dtype))
        else:
            assert [each.decode() for each in values] == want["data"]


async def test_a_call_without_outputs_gets_the_models_first_three(grpc_calls: GrpcClient) -> None:
    answer = await grpc_calls.call(infer_request(photo(), top_k=2))
    assert [output.name for output in answer.outputs] == ["class_ids", "scores", "labels"]
    assert tensors_of(answer)["labels"] == [b"star", b"square"]
    assert answer.id == "mine"


async def test_raw_and_typed_contents_are_the_same(
    grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    files = [photo(40, 30), photo(30, 80)]
    raw = await grpc_calls.call(infer_request(*files))
    assert await grpc_calls.call(infer_request(*files, raw=False)) == raw
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    raw = await grpc_calls.call(pixel_request(pixels))
    assert await grpc_calls.call(pixel_request(pixels, raw=False)) == raw
    # Two threads decode, in any order.
    seen = [each.pixels.tobytes() for each in engines.images]
    assert set(seen[:2]) == set(seen[2:4])
    assert set(seen[4:6]) == set(seen[6:])
    assert len(set(seen)) == 4


@pytest.mark.parametrize("value", [2, "2"])
async def test_a_parameter_may_have_the_type_that_the_client_gives_it(
    grpc_calls: GrpcClient, value: Any
) -> None:
    answer = await grpc_calls.call(infer_request(photo(), top_k=value, logits=True))
    assert [list(output.shape) for output in answer.outputs] == [[1, 2], [1, 2], [1, 2], [1, 4]]


async def test_what_triton_and_kserve_say_beside_a_call_changes_nothing(
    grpc_calls: GrpcClient,
) -> None:
    plain, request = infer_request(photo()), infer_request(photo())
    for each in (plain, request):
        each.outputs.add(name="scores")
    request.parameters["triton_enable_empty_final_response"].bool_param = False
    size = len(request.raw_input_contents[0])
    request.inputs[0].parameters["binary_data_size"].int64_param = size
    request.outputs[0].parameters["binary_data"].bool_param = True
    assert await grpc_calls.call(request) == await grpc_calls.call(plain)


async def test_a_compressed_message_is_inflated(grpc_calls: GrpcClient) -> None:
    plain = await grpc_calls.call(infer_request(photo()))
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert await grpc_calls.call(infer_request(photo()), compression=compression) == plain


def changed(**fields: Any) -> messages.ModelInferRequest:
    request = infer_request(photo())
    for name in fields:
        request.ClearField(name)
    request.MergeFrom(messages.ModelInferRequest(**fields))
    return request


def with_input(**fields: Any) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name="demo")
    request.inputs.add(**{"name": "image", "datatype": "BYTES", "shape": [1]} | fields)
    return request


def both_contents() -> messages.ModelInferRequest:
    request = infer_request(photo())
    request.inputs[0].contents.bytes_contents.append(photo())
    return request


def asking_for(output: str) -> messages.ModelInferRequest:
    request = infer_request(photo())
    request.outputs.add(name=output)
    return request


def with_parameter(of: str) -> messages.ModelInferRequest:
    request = asking_for("scores")
    getattr(request, of)[0].parameters["classification"].int64_param = 1
    return request


def with_wrong_size() -> messages.ModelInferRequest:
    request = infer_request(photo())
    request.inputs[0].parameters["binary_data_size"].int64_param = 7
    return request


def without_value() -> messages.ModelInferRequest:
    request = infer_request(photo())
    request.parameters["top_k"].SetInParent()
    return request


REFUSED: dict[str, tuple[messages.ModelInferRequest | bytes, str]] = {
    "no inputs": (messages.ModelInferRequest(model_name="demo"), "0 inputs"),
    "another input": (with_input(name="pixels"), "no input 'pixels'"),
    "another type": (with_input(datatype="FP32"), "FP32"),
    "no contents": (with_input(), r"\[1\].*0 elements"),
    "contents of another type": (
        with_input(contents=messages.InferTensorContents(fp32_contents=[1.0])),
        "fp32_contents",
    ),
    "no bytes": (
        with_input(
            datatype="UINT8",
            shape=[1, 1, 1, 3],
            contents=messages.InferTensorContents(uint_contents=[1, 2, 256]),
        ),
        "0 to 255",
    ),
    "contents twice": (both_contents(), "send one"),
    "a raw tensor too many": (changed(raw_input_contents=[b"", b""]), "2 raw_input_contents"),
    "a raw tensor without lengths": (changed(raw_input_contents=[photo()]), "little endian"),
    "another output": (asking_for("boxes"), "no output 'boxes'"),
    "another parameter": (infer_request(photo(), topk=1), "no parameter 'topk'"),
    "a parameter of an input": (with_parameter("inputs"), "'classification' of input 'image'"),
    "a parameter of an output": (with_parameter("outputs"), "'classification' of output 'scores'"),
    "another size": (with_wrong_size(), "binary_data_size of input 'image' is 7; by gRPC"),
    "a parameter without a value": (without_value(), "'top_k' has no value"),
    "a value out of range": (infer_request(photo(), top_k=5), "4 classes"),
    "no image": (infer_request(b"no image"), r"image\[0\]: The bytes are not an image"),
    "no message": (b"no message", "damaged"),
    "too many fields": (b"\x3a\x00" * 5000, "more than 4096 fields"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_understood_is_an_invalid_argument(
    grpc_calls: GrpcClient, engines: FakeEngines, case: str
) -> None:
    request, mentions = REFUSED[case]
    code, details = await grpc_calls.failure(request, name="ModelInfer")
    assert code is Code.INVALID_ARGUMENT
    assert re.search(mentions, details), details
    assert not engines.images


@pytest.mark.parametrize("fields", [{"model_name": "bird"}, {"model_version": "123"}])
async def test_an_unknown_model_or_version_is_not_found(
    grpc_calls: GrpcClient, fields: dict[str, str]
) -> None:
    code, details = await grpc_calls.failure(changed(**fields))
    assert code is Code.NOT_FOUND
    assert next(iter(fields.values())) in details


async def test_other_methods_are_not_implemented(grpc_calls: GrpcClient) -> None:
    code, _ = await grpc_calls.failure(infer_request(photo()), name="ModelStreamInfer")
    assert code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("error", "code", "slug", "retry_after"),
    [
        (
            DeadlineUnreachableError(needed_seconds=9.0, left_seconds=2.0),
            Code.RESOURCE_EXHAUSTED,
            "deadline-unreachable",
            "7",
        ),
        (NotReadyError("Off.", retry_after_seconds=0.1), Code.UNAVAILABLE, "not-ready", "1"),
        (
            DeadlineExceededError(timeout_seconds=1.0),
            Code.DEADLINE_EXCEEDED,
            "deadline-exceeded",
            None,
        ),
        (InferenceError("It is not finite."), Code.INTERNAL, "inference-failed", None),
        (RuntimeError("a fault"), Code.INTERNAL, "internal-error", None),
    ],
)
async def test_a_failure_has_its_status_and_says_when_to_retry(
    grpc_calls: GrpcClient,
    engines: FakeEngines,
    error: Exception,
    code: grpc.StatusCode,
    slug: str,
    retry_after: str | None,
) -> None:
    engines.error = error
    found, details = await grpc_calls.failure(
        infer_request(photo()), metadata=[("x-request-id", "mine")]
    )
    assert found is code
    assert "a fault" not in details
    trailers = grpc_calls.trailers
    assert trailers["problem-type"] == f"urn:overlock:problem:{slug}"
    assert trailers.get("retry-after") == retry_after
    assert trailers["x-request-id"] == "mine"


async def test_an_image_of_too_many_pixels_exhausts_a_resource(grpc_calls: GrpcClient) -> None:
    code, details = await grpc_calls.failure(infer_request(photo(2000, 1000)))
    assert code is Code.RESOURCE_EXHAUSTED
    assert "2000 x 1000 pixels" in details
