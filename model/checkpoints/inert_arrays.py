"""Stand-ins for the numpy objects in a pickle: they hold numbers and run no code.

Training scripts store numpy scores and palettes beside the weights. numpy's own types are not
safe to unpickle: their state can declare any bytes to be a Python object. No code of numpy runs
while a file is unpickled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

INTEGER_KINDS = frozenset({"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"})
MAX_NUMBERS = 100_000


class InertDtype:
    """Holds the code of a dtype, such as "u1"."""

    def __init__(self, *arguments: object) -> None:
        code = arguments[0] if arguments else ""
        self.code = code if isinstance(code, str) else ""
        self.byte_order = "<"

    def __setstate__(self, state: object) -> None:
        """Take the byte order; the rest concerns dtypes that are not read."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.byte_order = ">"


class InertArray:
    """Holds the pickled state of an array."""

    def __init__(self, *_: object) -> None:
        self._state: object = None

    def __setstate__(self, state: object) -> None:
        """Take numpy's state: version, shape, dtype, whether column-major, bytes."""
        self._state = state

    def integers(self) -> Any:
        """Return nested lists of the numbers.

        Raises:
            ValueError: if this is no array of integers, or a very large one.
        """
        match self._state:
            case (_, tuple(shape), InertDtype() as dtype, column_major, bytes(data)):
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
        numbers = np.frombuffer(data, kind).reshape(shape, order="F" if column_major else "C")
        return numbers.tolist()
