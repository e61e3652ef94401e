"""Messages of ``open_inference.proto``, made from its compiled form, ``open_inference.binpb``.

The compiled form suits every version of protobuf that gRPC does, which protoc's own modules do not.
The messages have a pool of their own, so that a program can import other modules with the
standard's names beside these, such as Triton's client.
"""

from __future__ import annotations

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

_compiled = files(__package__).joinpath("open_inference.binpb").read_bytes()
(_file,) = FileDescriptorSet.FromString(_compiled).file
DESCRIPTOR = DescriptorPool().AddSerializedFile(_file.SerializeToString())

globals().update(
    {name: GetMessageClass(message) for name, message in DESCRIPTOR.message_types_by_name.items()}
    | {name: EnumTypeWrapper(enum) for name, enum in DESCRIPTOR.enum_types_by_name.items()}
)
