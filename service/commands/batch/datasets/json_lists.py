"""Lists in JSON files that are written an element at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import msgspec


def encoded(value: Any) -> bytes:
    """Return a value as JSON."""
    return msgspec.json.encode(value)


def write_list(file: BinaryIO, elements: Iterable[Any]) -> None:
    """Write a list, an element a line."""
    separator = b"[\n"
    for element in elements:
        file.write(separator + encoded(element))
        separator = b",\n"
    file.write(b"\n]" if separator == b",\n" else b"[]")
