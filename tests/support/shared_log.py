"""The file that a process under test prints to."""

from __future__ import annotations

import os
from typing import IO


def text_so_far(log: IO[bytes]) -> str:
    """Read a file that a process writes; its position, which both share, stays where it is.

    A reader that went to the beginning would have the next line written over the first.
    """
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode()
