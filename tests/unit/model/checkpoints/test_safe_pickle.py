"""Nothing in a pickle runs, whatever opcode calls it."""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import io
import pickle
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from model.checkpoints.safe_pickle import PickleError, read_pickle
from model.checkpoints.stand_ins import Inert, InertNamespace

PLAIN = {
    "numbers": [0, -1, 255, 70_000, 1 << 80, -(1 << 2100), 0.5],
    "texts": ["", "é", "x" * 300, b"bytes", b"y" * 300],
    "others": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": {1: [{"b": (3, [4])}]}},
}


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_in_every_protocol(protocol: int) -> None:
    assert read(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(2, 6))
def test_mappings_of_the_standard_library_are_mappings(protocol: int) -> None:
    mappings = [OrderedDict(a=1), defaultdict(int, a=1)]
    assert read(pickle.dumps(mappings, protocol)) == [{"a": 1}, {"a": 1}]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        PurePosixPath("a"),
        datetime.now(UTC),
        {1, 2},
        frozenset({1}),
        Counter("a"),
        deque([1, 2]),
        range(3),
        1j,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_inert_and_remember_only_a_name(value: object, protocol: int) -> None:
    got = read(pickle.dumps({"before": 1, "value": value, "after": [2]}, protocol))
    assert (got["before"], got["after"]) == (1, [2])
    assert type(got["value"]) is Inert
    assert [*vars(got["value"])] == ["name"]
    with pytest.raises(AttributeError):
        setattr(got["value"], "other", "state")  # noqa: B010 - mypy would refuse it


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", [argparse.Namespace, SimpleNamespace])
def test_a_namespace_keeps_its_values_and_is_no_mapping(kind: Any, protocol: int) -> None:
    path = PurePosixPath("a")
    got = read(pickle.dumps(kind(size=384, mean=(0.5, [0.4]), none=None, path=path), protocol))
    assert type(got) is InertNamespace
    assert not isinstance(got, dict)
    assert type(got.values.pop("path")) is Inert
    assert got.values == {"size": 384, "mean": (0.5, [0.4]), "none": None}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_namespaces_values_are_never_its_attributes(protocol: int) -> None:
    hostile = {"name": "other", "values": 3, "__class__": 3, "__dict__": {"name": "b"}, "_val": 1}
    namespace = argparse.Namespace()
    vars(namespace).update(hostile)
    got = read(pickle.dumps(namespace, protocol))
    assert (type(got), got.name) == (InertNamespace, "argparse.Namespace")
    assert got.values == hostile


def test_a_namespace_that_holds_itself_is_read() -> None:
    loop = argparse.Namespace(size=384)
    loop.args = loop
    got = read(pickle.dumps(loop, 2))
    assert got.values["args"] is got


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def hostile(code: str) -> dict[str, bytes]:
    """Pickles that run code when ``pickle.loads`` reads them, one for each way to call."""
    argument = text(code)
    evaluate = b"cbuiltins\nexec\n"
    stacked = text("builtins") + text("exec") + b"\x93"
    record = b"c__main__\nEvil\n"
    namespace = b"\x80\x02cargparse\nNamespace\n)\x81"
    return {
        "GLOBAL, REDUCE": b"\x80\x02" + evaluate + argument + b"\x85R.",
        "STACK_GLOBAL, REDUCE": b"\x80\x04" + stacked + argument + b"\x85R.",
        "INST": b"(" + argument + b"ibuiltins\nexec\n.",
        "OBJ": b"(" + evaluate + argument + b"o.",
        "NEWOBJ": b"\x80\x02" + b"csupport_evil\nEvil\n" + argument + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + b"csupport_evil\nEvil\n" + argument + b"\x85}\x92.",
        "BUILD": b"\x80\x02" + b"csupport_evil\nEvil\n)\x81" + argument + b"b.",
        "APPEND": b"\x80\x02" + b"csupport_evil\nEvil\n)\x81" + argument + b"a.",
        "APPENDS": b"\x80\x02" + b"csupport_evil\nEvil\n)\x81(" + argument + b"e.",
        "SETITEM": b"\x80\x02" + b"csupport_evil\nEvil\n)\x81" + argument + b"Ns.",
        "SETITEMS": b"\x80\x02" + b"csupport_evil\nEvil\n)\x81(" + argument + b"Nu.",
        "ADDITEMS": b"\x80\x04" + b"csupport_evil\nEvil\n)\x81(" + argument + b"\x90.",
        "value of a namespace": namespace + b"}" + text("a") + evaluate + argument + b"\x85Rsb.",
        "key of a namespace": namespace + b"}" + evaluate + argument + b"\x85RNsb.",
        "state of a namespace": namespace + evaluate + argument + b"\x85Rb.",
        "argument of a namespace": b"\x80\x02ctypes\nSimpleNamespace\n"
        + evaluate
        + argument
        + b"\x85R0)R.",
        "EXT1": b"\x80\x02\x82\xf0" + argument + b"\x85R.",
        "EXT2": b"\x80\x02\x83\xf0\x00" + argument + b"\x85R.",
        "EXT4": b"\x80\x02\x84\xf0\x00\x00\x00" + argument + b"\x85R.",
        "PERSID": b"P" + code.encode() + b"\n.",
        "BINPERSID": argument + b"Q.",
        "dotted name": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + b"\x85R.",
        "key that is hashed": b"\x80\x02}" + record + b")\x81Ns.",
        "result called": b"\x80\x02" + evaluate + argument + b"\x85R" + argument + b"\x85R.",
        "memo of a torch function": b"\x80\x02ctorch\nload\nq\x00h\x00" + argument + b"\x85R.",
    }


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that the pickles may name, and an extension code for ``exec``."""
    module = types.ModuleType("support_evil")

    class Evil:
        def __new__(cls, code: str = "pass", **_: Any) -> Any:
            exec(code)
            return object.__new__(cls)

        def __setstate__(self, code: str) -> None:
            exec(code)

        append = add = __setstate__

        def __setitem__(self, code: str, _: object) -> None:
            exec(code)

    module.Evil = Evil  # type: ignore[attr-defined]
    Evil.__module__ = "support_evil"
    monkeypatch.setitem(sys.modules, "support_evil", module)
    monkeypatch.setitem(copyreg._inverted_registry, 0xF0, ("builtins", "exec"))  # type: ignore[attr-defined]


WAYS = list(hostile(""))
PROVEN = WAYS[: WAYS.index("PERSID")]
"""Those for which plain ``pickle`` shows that the pickle is a real attack."""


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("way", WAYS)
def test_no_opcode_runs_code(tmp_path: Path, way: str) -> None:
    proof = tmp_path / "it ran"
    data = hostile(f"open({str(proof)!r}, 'w').close()")[way]
    try:
        got = read(data)
    except PickleError:
        got = Inert("refused")
    assert not proof.exists()
    assert isinstance(got, Inert | dict)


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("way", PROVEN)
def test_the_same_pickle_runs_code_in_pythons_reader(tmp_path: Path, way: str) -> None:
    proof = tmp_path / "it ran"
    pickle.loads(hostile(f"open({str(proof)!r}, 'w').close()")[way])
    assert proof.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_truncated_pickle_is_refused(protocol: int) -> None:
    data = pickle.dumps(PLAIN, protocol)
    for length in range(len(data)):
        with pytest.raises(PickleError, match="truncated or malformed"):
            read(data[:length])


@pytest.mark.parametrize("number", range(256))
def test_every_byte_as_the_first_opcode_is_read_or_refused(number: int) -> None:
    with contextlib.suppress(PickleError):
        read(bytes([number]) + b"\x01\x00\x00\x00\x00\x00\x00\x00\n\n.")


def test_a_key_that_takes_for_ever_to_hash_is_not_hashed() -> None:
    nested = b")" + b"2\x86" * 60
    got = read(b"\x80\x02}" + nested + b"K\x01s.")
    assert [type(key) for key in got] == [Inert]


def test_a_key_that_has_no_text_is_replaced() -> None:
    got = read(pickle.dumps({1 << 20_000: 1}, 2))
    assert [type(key) for key in got] == [Inert]
