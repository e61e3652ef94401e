from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from service.web.grpc import open_inference_pb2 as messages

ROOT = Path(__file__).parents[5]
FOLDER = ROOT / "service" / "web" / "grpc"
STANDARD = json.loads((ROOT / "tests/support/open_inference_standard.json").read_text())
"""What Triton's client has: each message's fields as number and type."""

TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def own_messages() -> Iterator[Descriptor]:
    waiting = list(messages.DESCRIPTOR.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_types)
        yield message


def stated(field: FieldDescriptor) -> str:
    of = field.message_type or field.enum_type
    kind = TYPES[field.type] if of is None else of.full_name
    return f"{field.number} {'repeated ' if field.is_repeated else ''}{kind}"


@pytest.mark.parametrize(
    "message", list(own_messages()), ids=lambda message: str(message.full_name)
)
def test_every_field_has_the_standards_number_and_type(message: Descriptor) -> None:
    standard = STANDARD["messages"][message.full_name]
    own = {field.name: stated(field) for field in message.fields}
    assert own == {name: standard[name] for name in own}


def test_every_method_and_data_type_is_the_standards() -> None:
    service = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in service.methods:
        types = f"{method.input_type.full_name} {method.output_type.full_name}"
        assert types == STANDARD["methods"][method.name]
    assert dict(messages.DataType.items()) == STANDARD["enums"]["inference.DataType"]


def test_the_compiled_files_are_those_of_the_proto(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", "-I", str(FOLDER)]
    command += [f"--descriptor_set_out={tmp_path}/open_inference.binpb", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "open_inference.proto"], check=True)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), "run: make protocol"


def test_the_messages_leave_the_standards_names_to_other_modules() -> None:
    # What Triton's client does when it is imported: the same names, in the default pool.
    script = (
        "from google.protobuf import descriptor_pool;"
        "from service.web.grpc import open_inference_pb2 as own;"
        "pool = descriptor_pool.Default();"
        "pool.AddSerializedFile(own.DESCRIPTOR.serialized_pb);"
        "theirs = pool.FindMessageTypeByName('inference.ModelInferRequest');"
        "assert theirs is not own.ModelInferRequest.DESCRIPTOR"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
