"""Limits of a message, checked in its bytes, before protobuf makes objects of them.

Two bytes can become an object of a hundred: a message of the allowed size could take a hundred
times its memory, and hold the event loop for seconds.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from service.api.errors import MalformedRequestError

MAX_FIELDS = 4096
"""Most fields of a message, those within its fields among them; an element counts as one."""

MAX_LISTED_BYTES = 4 * 2**20
"""Most bytes of numbers that are listed one by one, each of which takes up to eight in memory."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 10


def check_wire(message: Descriptor, body: bytes) -> None:
    """Check the bytes of a message.

    Args:
        message: that they should be.
        body: complete.

    Raises:
        MalformedRequestError: if they are damaged, or exceed a limit.
    """
    _Check(body).message(message, 0, len(body), _MAX_DEPTH)


class _Check:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._fields_left = MAX_FIELDS
        self._listed_bytes_left = MAX_LISTED_BYTES

    def message(self, message: Descriptor, at: int, end: int, depth: int) -> None:
        """Check a message, or one within it, from one byte to another."""
        if not depth:
            raise MalformedRequestError("The message is nested too deeply.")
        fields = message.fields_by_number
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise MalformedRequestError(f"The message has more than {MAX_FIELDS} fields.")
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == _LENGTH:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise _damaged()
                self._check_field(fields.get(tag >> 3), at, at + length, depth)
                at += length
            elif kind == _VARINT:
                _, at = self._varint(at, end)
            elif kind in _FIXED_BYTES:
                at += _FIXED_BYTES[kind]
            else:
                raise _damaged()
        if at != end:
            raise _damaged()

    def _check_field(self, field: FieldDescriptor | None, at: int, end: int, depth: int) -> None:
        if field is None:
            return
        if field.message_type is not None:
            self.message(field.message_type, at, end, depth - 1)
        elif field.type not in {FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING}:
            self._listed_bytes_left -= end - at
            if self._listed_bytes_left < 0:
                raise MalformedRequestError(
                    f"The message lists more than {MAX_LISTED_BYTES} bytes of numbers; send them "
                    "in raw_input_contents."
                )

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Return the number that begins at a byte, and where the next field begins."""
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            if at + place >= end:
                break
            byte = self._body[at + place]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value, at + place + 1
        raise _damaged()


def _damaged() -> MalformedRequestError:
    return MalformedRequestError("The message is damaged: a field ends behind it.")
