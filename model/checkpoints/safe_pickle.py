"""Read a pickle without running any of it.

Only what a weights file needs is made: plain values, mappings, descriptions of stored tensors,
arrays of class colours, and the entries of a training's options. Every other object, whatever
opcode makes it, becomes an ``Inert``. No name in the file is ever looked up or called.

Source: https://docs.python.org/3/library/pickletools.html.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from mmap import mmap
from typing import IO, Any, cast

from model.checkpoints.inert_arrays import InertArray, InertDtype
from model.checkpoints.stand_ins import Inert, InertNamespace, StoredNumbers, stand_in

NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
LITERALS = frozenset(NUMBERS | STRINGS | TEXTS | BYTES)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Inert("builtins.set"),
    "NEXT_BUFFER": lambda: Inert("out-of-band buffer"),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(ValueError):
    """The bytes are no intact pickle."""


def read_pickle(file: IO[bytes] | mmap, kinds: dict[str, str] | None = None) -> Any:
    """Read one pickle of any protocol, up to its end.

    Args:
        file: bytes in memory, or mapped into it, read up to the pickle's end.
        kinds: receives the class of each storage that the pickle names, by its key.

    Raises:
        PickleError: if it is truncated or malformed.
    """
    machine = _Machine(kinds if kinds is not None else {})
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
            machine.run(opcode.name, argument)
        return machine.stack.pop()
    except (LookupError, ValueError, TypeError, OverflowError) as error:
        raise PickleError(f"its pickle is truncated or malformed: {error}") from error


class _Machine:
    """The pickle machine's stack and memo, without its calls."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self._kinds = kinds
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcode: str, argument: Any) -> None:
        """Execute one opcode."""
        if opcode in LITERALS:
            self.stack.append(argument)
        elif opcode in CONSTANTS:
            self.stack.append(CONSTANTS[opcode]())
        elif opcode in TUPLES:
            self.stack.append(tuple(self._last(TUPLES[opcode])))
        else:
            handler = getattr(self, f"_{opcode.lower()}", None)
            if handler is None:
                raise PickleError(f"its pickle has an unknown opcode, {opcode}")
            handler(argument)

    def _last(self, count: int) -> list[Any]:
        values = [self.stack.pop() for _ in range(count)]
        return values[::-1]

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self._marks.pop()
        return values

    def _proto(self, _: Any) -> None: ...

    def _frame(self, _: Any) -> None: ...

    def _stop(self, _: Any) -> None: ...

    def _readonly_buffer(self, _: Any) -> None: ...

    def _mark(self, _: Any) -> None:
        self._marks.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        self.stack = self.stack[:-1] if self.stack else self._marks.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        values = tuple(self._since_mark())
        self.stack.append(values)

    def _list(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append(values)

    def _dict(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def _frozenset(self, _: Any) -> None:
        self._since_mark()
        self.stack.append(Inert("builtins.frozenset"))

    def _append(self, _: Any) -> None:
        self._extend(self._last(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _additems(self, _: Any) -> None:
        self._since_mark()

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        self._set(self._last(2))

    def _setitems(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.values if isinstance(target, InertNamespace) else target
        if isinstance(entries, dict):
            keys = map(_as_key, values[::2])
            entries.update(zip(keys, values[1::2], strict=True))

    def _global(self, names: str) -> None:
        self.stack.append(Inert(names.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self._last(2)
        self.stack.append(Inert(f"{_text(module)}.{_text(name)}"))

    def _ext1(self, code: int) -> None:
        self.stack.append(Inert(f"extension {code}"))

    _ext2 = _ext4 = _ext1

    def _persid(self, _: str) -> None:
        self.stack.append(Inert("persistent id"))

    def _binpersid(self, _: Any) -> None:
        match self.stack.pop():
            case ("storage", Inert(name=kind), (str() | int()) as key, _, int(), *views):
                pass
            case _:
                self.stack.append(Inert("persistent id"))
                return
        self._kinds[str(key)] = kind
        match views:
            case [(_, int(offset), int())]:
                self.stack.append(StoredNumbers(kind, str(key), offset))
            case _:
                self.stack.append(StoredNumbers(kind, str(key), 0))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._last(2)
        self.stack.append(stand_in(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        made, arguments, _ = self._last(3)
        self.stack.append(stand_in(made, arguments))

    def _obj(self, _: Any) -> None:
        made, *arguments = self._since_mark()
        self.stack.append(stand_in(made, tuple(arguments)))

    def _inst(self, names: str) -> None:
        arguments = tuple(self._since_mark())
        self.stack.append(stand_in(Inert(names.replace(" ", ".", 1)), arguments))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], InertArray | InertDtype):
            self.stack[-1].__setstate__(state)
        if isinstance(self.stack[-1], InertNamespace) and isinstance(state, dict):
            self.stack[-1].values.update(state)


def _as_key(key: Any) -> Any:
    """Keep plain keys; hashing nested tuples takes for ever, and huge numbers have no text."""
    plain = key.bit_length() <= 64 if isinstance(key, int) else isinstance(key, str | float | None)
    return key if plain else Inert(type(key).__name__)


def _text(name: Any) -> str:
    return name if isinstance(name, str) else "?"
