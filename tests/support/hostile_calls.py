"""An endless sequence of damaged calls for ``/v2``, the same for the same seed."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model.scenes.scenes import draw_scene
from support.hostile_requests import HostileRequest
from support.image_mutations import mutations
from support.protocol_calls import HEADER_LENGTH, elements
from support.scene_files import png

DATATYPES = ["BYTES", "UINT8", "FP32", "INT8", "BOOL", "bytes", "", "\x00", "BYTES" * 1000]

PATHS = ["/v2/models/demo/infer"] * 20 + [
    "/v2/models/demo/versions/0/infer",
    "/v2/models/demo/versions/%00/infer",
    "/v2/models/no-model/infer",
    "/v2/models/%2e%2e/infer",
    "/v2/models/demo/infer?top_k=1",
]

STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e308, 64, 65, 255, 256),
    *(2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64, 10**400),
    *("", "0", "true", "image", "\x00", "\ud800", "\U0010ffff", "🦎" * 40, "a" * 100_000),
    *([], {}, [[]], [None], {"": {}}, [1] * 5000, {"a": 1, "b": [2]}),
]
"""Values that a place in the JSON may not expect."""

SHAPES = [
    *([], [0], [-1], [1], [2], [65], [10**6], [2**62, 2**62], [1, 2**31, 2**31, 3], [1] * 10_000),
    *([1, 9000, 9000, 3], [64, 4000, 4000, 3], [1, 1, 1, 3], [1, 0, 5, 3], [2**32, 1, 1, 3]),
]

PARAMETERS = ["top_k", "logits", "layer", "normalize", "binary_data_output", "classification", "é"]

TIMEOUTS: list[Any] = [-1, 0, 0.5, 10**9, 2**70, True, None, "", "0", "-1", "1e9", [], 10**9 + 0.5]
"""None of them is a time that passes: an expired call is rightly 504."""

LENGTHS = ["", "0", "-1", "+5", "5, 5", "0x10", "1e3", "1_0", "\xb2", "9" * 5000, "4294967295"]
"""Of the JSON, as the header states it."""

PIECES = [
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b" " * 1000),
    *(b'"', b"\\", b"\\u", b"\\ud800", b"{", b"]", b",", b":"),
    *(b"1e999", b"-", b"NaN", b'"inputs":[],'),
]
"""Bytes that are put into JSON."""

Chance = random.Random
Node = Any


@dataclass
class Call:
    """A call, before and after damage.

    Attributes:
        document: its JSON.
        tensors: the bytes behind it; empty for none.
        text: the JSON as it is sent.
        path: with the query.
        headers: some may be given twice.
    """

    document: Node
    tensors: bytes = b""
    text: bytes = b""
    path: str = PATHS[0]
    headers: list[tuple[str, str]] = field(default_factory=list)


def hostile_calls(seed: int) -> Iterator[HostileRequest]:
    """Yield damaged calls for ever; about one in eight is left intact."""
    chance, images = random.Random(seed), mutations(seed)
    good = [png(draw_scene(640_000 + place, 64, 96).image) for place in range(4)]
    while True:
        files = [chance.choice([*good, next(images)]) for _ in range(chance.choice([1, 1, 2, 5]))]
        call = _call(chance, files)
        damages = chance.sample(_DAMAGES, chance.choice([0, 1, 1, 1, 1, 2, 2, 3]))
        for damage in damages:
            if damage in _OF_DOCUMENTS:
                damage(chance, call)
        call.text = _text(call.document)
        call.headers = [(HEADER_LENGTH, str(len(call.text)))] if call.tensors else []
        for damage in damages:
            if damage not in _OF_DOCUMENTS:
                damage(chance, call)
        body, headers = call.text + call.tensors, call.headers
        if chance.random() < 0.1:
            body, coding = _compressed(chance, body)
            headers = [*headers, ("Content-Encoding", coding)]
        yield HostileRequest(call.path, body, headers)


def _call(chance: Chance, files: list[bytes]) -> Call:
    """Return an intact call, in one of the four forms."""
    described: dict[str, Node] = {"name": "image", "datatype": "BYTES", "shape": [len(files)]}
    if chance.random() < 0.3:
        shape = (len(files), chance.randrange(1, 40), chance.randrange(1, 40), 3)
        raw = chance.randbytes(int(np.prod(shape)))
        described |= {"datatype": "UINT8", "shape": list(shape)}
        data: list[Node] = list(raw)
    else:
        raw = elements(*files)
        data = [base64.b64encode(file).decode() for file in files]
    call = Call({"id": "a", "inputs": [described]})
    if chance.random() < 0.6:
        described["parameters"] = {"binary_data_size": len(raw)}
        call.tensors = raw
    else:
        described["data"] = data
    if chance.random() < 0.5:
        call.document["outputs"] = [{"name": "scores", "parameters": {"binary_data": True}}]
    if chance.random() < 0.5:
        call.document["parameters"] = {"top_k": 2, "binary_data_output": True}
    return call


def _places(node: Node) -> Iterator[tuple[Node, Any]]:
    """Yield every place of a document: what holds it, and its key or index there."""
    keys = node if isinstance(node, dict) else range(min(len(node), 8))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _place(chance: Chance, call: Call) -> tuple[Node, Any]:
    return chance.choice(list(_places(call.document)) or [({"": 0}, "")])


def _input(call: Call) -> dict[str, Node]:
    try:
        found = call.document["inputs"][0]
    except (LookupError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _replace(chance: Chance, call: Call) -> None:
    holder, key = _place(chance, call)
    holder[key] = copy.deepcopy(chance.choice(STRANGE))


def _remove(chance: Chance, call: Call) -> None:
    holder, key = _place(chance, call)
    del holder[key]


def _move(chance: Chance, call: Call) -> None:
    (holder, key), (other, name) = _place(chance, call), _place(chance, call)
    holder[key] = copy.deepcopy(other[name])


def _add(chance: Chance, call: Call) -> None:
    holder, _ = _place(chance, call)
    value = copy.deepcopy(chance.choice(STRANGE))
    if isinstance(holder, dict):
        holder[chance.choice(["extra", "data", "shape", "model_name", "", "é" * 500])] = value
    else:
        holder.extend([value] * chance.choice([1, 70, 3000]))


def _nest(chance: Chance, call: Call) -> None:
    holder, key = _place(chance, call)
    for _ in range(chance.choice([1, 5, 100])):  # deeper ones are written as text
        holder[key] = [holder[key]] if chance.random() < 0.5 else {"a": holder[key]}


def _change_shape(chance: Chance, call: Call) -> None:
    _input(call)["shape"] = copy.deepcopy(chance.choice(SHAPES))


def _change_type(chance: Chance, call: Call) -> None:
    _input(call)["datatype"] = chance.choice(DATATYPES)


def _change_size(chance: Chance, call: Call) -> None:
    size = len(call.tensors)
    sizes = [size - 1, size + 1, 0, -1, 2**63, 2**70, 1.0, str(size), True, None]
    _input(call)["parameters"] = {"binary_data_size": chance.choice(sizes)}


def _change_parameters(chance: Chance, call: Call) -> None:
    name, value = chance.choice(PARAMETERS), chance.choice(STRANGE)
    if chance.random() < 0.3:
        name, value = "timeout", chance.choice(TIMEOUTS)
    if isinstance(call.document, dict):
        call.document["parameters"] = {name: copy.deepcopy(value)}


def _change_lengths(chance: Chance, call: Call) -> None:
    length = chance.choice([0, 1, 2**31, 2**32 - 1, len(call.tensors), len(call.tensors) - 5])
    call.tensors = struct.pack("<I", max(length, 0)) + call.tensors[4:]


def _change_tensors(chance: Chance, call: Call) -> None:
    at = chance.randrange(len(call.tensors) + 1)
    call.tensors = chance.choice(
        [call.tensors[:at], call.tensors + b"\0", b"\0" * 4 * 65, b"\0" * at, call.tensors * 2]
    )


def _damage_text(chance: Chance, call: Call) -> None:
    text = bytearray(call.text)
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(text) + 1)
        piece = chance.choice(PIECES)
        text[at : at + chance.choice([0, 0, 1, 5])] = piece
    call.text = bytes(text)


def _cut_text(chance: Chance, call: Call) -> None:
    call.text = call.text[: chance.randrange(len(call.text) + 1)]


def _repeat_key(chance: Chance, call: Call) -> None:
    key = chance.choice([b'"id"', b'"inputs"', b'"name"', b'"shape"', b'"parameters"', b'"data"'])
    call.text = call.text.replace(key, key + b":" + chance.choice([b"1,", b"[],", b'"",']) + key, 1)


def _nest_text(chance: Chance, call: Call) -> None:
    depth = chance.choice([200, 2000, 100_000])
    opened, closed = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nested = opened * depth + b"1" + closed * chance.choice([0, depth])
    key = chance.choice([b'"id":', b'"shape":', b'"data":', b'"parameters":', b'"inputs":'])
    call.text = call.text.replace(key, key + nested + chance.choice([b",", b""]), 1)


def _change_header(chance: Chance, call: Call) -> None:
    size = len(call.text)
    lengths = [*LENGTHS, str(size - 1), str(size + 1), str(size + len(call.tensors) + 1)]
    given = [(HEADER_LENGTH, chance.choice(lengths))]
    call.headers = chance.choice([given, given, [*call.headers, *given], []])


def _change_path(chance: Chance, call: Call) -> None:
    call.path = chance.choice(PATHS)


_OF_DOCUMENTS: list[Callable[[Chance, Call], None]] = [
    *(_replace, _remove, _move, _add, _nest, _change_shape, _change_type, _change_size),
    *(_change_parameters, _change_lengths, _change_tensors),
]

_DAMAGES = [
    *_OF_DOCUMENTS,
    *(_damage_text, _cut_text, _repeat_key, _nest_text, _change_header, _change_path),
]


def _text(document: Node) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _compressed(chance: Chance, body: bytes) -> tuple[bytes, str]:
    coding = chance.choice(["gzip", "deflate"])
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    if chance.random() < 0.4:
        packed = packed[: chance.randrange(len(packed))]
    return packed, chance.choice([coding, coding, coding, "br", "gzip, gzip", ""])
