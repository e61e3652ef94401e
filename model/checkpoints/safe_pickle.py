"""Stand-ins for the numpy objects in a pickle: they keep numbers and can do nothing.

Training scripts store numpy scores and palettes beside the weights. numpy's own types are not
safe to unpickle: their state can name any bytes a Python object. Nothing of numpy is called here
while a file is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

INTEGER_KINDS = frozenset({"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"})
MAX_NUMBERS = 100_000


class InertDtype:
    """Remembers the code of a dtype, such as "u1"."""

    def __init__(self, *arguments: object) -> None:
        self.code = str(arguments[0]) if arguments else ""
        self.byte_order = "<"

    def __setstate__(self, state: object) -> None:
        """Take the byte order; the rest describes what is not read."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.byte_order = ">"


class InertArray:
    """Remembers what an array is made of."""

    def __init__(self, *_: object) -> None:
        self._state: object = None

    def __setstate__(self, state: object) -> None:
        """Take what numpy stored: version, shape, dtype, whether columns come first, bytes."""
        self._state = state

    def integers(self) -> Any:
        """Return nested lists of the numbers.

        Raises:
            ValueError: if this is no array of integers, or a very large one.
        """
        match self._state:
            case (_, tuple(shape), InertDtype() as dtype, columns_first, bytes(data)):
                pass
            case _:
                raise ValueError("no array")
        if dtype.code not in INTEGER_KINDS or not all(type(side) is int for side in shape):
            raise ValueError("no array of integers")
        kind = np.dtype(dtype.byte_order + dtype.code)
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_NUMBERS:
            raise ValueError("no small array")
        if len(data) != math.prod(shape) * kind.itemsize:
            raise ValueError("an array of another size than its data")
        numbers = np.frombuffer(data, kind).reshape(shape, order="F" if columns_first else "C")
        return numbers.tolist()


def _array(*_: object) -> InertArray:
    return InertArray()


def _number(*_: object) -> None:
    """Forget a number: none is needed."""


INERT_GLOBALS: list[tuple[Callable[..., Any], str]] = [
    (InertDtype, "numpy.dtype"),
    (InertArray, "numpy.ndarray"),
    # numpy 1 and 2 call the same module by different names.
    *((_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""What PyTorch's safe unpickler takes for which name."""
